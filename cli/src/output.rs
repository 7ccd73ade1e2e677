//! What goes to stdout: JSON for programs, tables for people.

use crate::failure::Failure;
use serde::Serialize;
use std::io::Write;

/// Writes one value as one line of JSON.
pub fn json_line(value: &impl Serialize) -> Result<(), Failure> {
    let line = serde_json::to_string(value)
        .map_err(|error| Failure::new(crate::failure::Kind::Internal, format!("json: {error}")))?;
    line_out(&line)
}

/// Writes one line of text.
pub fn line_out(line: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")
        .and_then(|()| stdout.flush())
        .map_err(Failure::stdout)
}

/// Columns with a heading, two spaces apart, each as wide as its widest cell.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these headings.
    pub fn new(headings: &[&str]) -> Table {
        Table {
            rows: vec![headings.iter().map(|heading| (*heading).to_owned()).collect()],
        }
    }

    /// Adds a row: one cell for each heading.
    pub fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.rows[0].len(), "one cell for each heading");
        self.rows.push(cells);
    }

    /// The table as text, without spaces at the ends of lines.
    fn render(&self) -> String {
        let columns = self.rows[0].len();
        let width = |column: usize| {
            self.rows
                .iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:<width$}", width = *width))
                .collect();
            text.push_str(cells.join("  ").trim_end());
            text.push('\n');
        }
        text
    }

    /// Writes it to stdout.
    pub fn print(&self) -> Result<(), Failure> {
        line_out(self.render().trim_end_matches('\n'))
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["name", "queues"]);
        table.row(vec!["a-long-name".to_owned(), "8".to_owned()]);
        assert_eq!(table.render(), "name         queues\na-long-name  8\n");
    }
}
