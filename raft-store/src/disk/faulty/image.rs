//! The bytes of one file, as pages that exist only where something was written. Pages are shared between the
//! current and the durable image until one of them is written to.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of a page.
pub const PAGE_BYTES: u64 = 4096;

type Page = [u8; PAGE_BYTES as usize];

/// Contents of a file: a length, and the pages that were written to.
#[derive(Clone, Default)]
pub struct Image {
    len: u64,
    pages: BTreeMap<u64, Arc<Page>>,
}

impl Image {
    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Pages that were written to.
    pub fn page_count(&self) -> u64 {
        self.pages.len() as u64
    }

    /// How many pages a write at this place would add.
    pub fn pages_added_by(&self, position: u64, len: usize) -> u64 {
        if len == 0 {
            return 0;
        }
        let (first, last) = (position / PAGE_BYTES, (position + len as u64 - 1) / PAGE_BYTES);
        (last - first + 1) - self.pages.range(first..=last).count() as u64
    }

    /// Fills the buffer as far as the file goes.
    pub fn read(&self, position: u64, buffer: &mut [u8]) -> usize {
        let available = self.len.saturating_sub(position).min(buffer.len() as u64) as usize;
        for (range, number, offset) in pieces(position, available) {
            let target = &mut buffer[range];
            match self.pages.get(&number) {
                Some(page) => target.copy_from_slice(&page[offset..offset + target.len()]),
                None => target.fill(0),
            }
        }
        available
    }

    /// Puts bytes at a place, extending the file when needed.
    pub fn write(&mut self, position: u64, bytes: &[u8]) {
        for (range, number, offset) in pieces(position, bytes.len()) {
            let source = &bytes[range];
            let page = self
                .pages
                .entry(number)
                .or_insert_with(|| Arc::new([0; PAGE_BYTES as usize]));
            Arc::make_mut(page)[offset..offset + source.len()].copy_from_slice(source);
        }
        if !bytes.is_empty() {
            self.len = self.len.max(position + bytes.len() as u64);
        }
    }

    /// Cuts or extends; what a cut took away reads as zeros when the file grows again.
    pub fn set_len(&mut self, len: u64) {
        if len < self.len {
            let kept = len.div_ceil(PAGE_BYTES);
            self.pages.split_off(&kept);
            let inside = (len % PAGE_BYTES) as usize;
            if inside > 0
                && let Some(page) = self.pages.get_mut(&(len / PAGE_BYTES))
            {
                Arc::make_mut(page)[inside..].fill(0);
            }
        }
        self.len = len;
    }
}

/// The pieces of a byte range by page: range inside the caller's buffer, page number, offset inside the page.
fn pieces(position: u64, len: usize) -> impl Iterator<Item = (std::ops::Range<usize>, u64, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = position + done as u64;
        let offset = (at % PAGE_BYTES) as usize;
        let count = (PAGE_BYTES as usize - offset).min(len - done);
        let piece = (done..done + count, at / PAGE_BYTES, offset);
        done += count;
        Some(piece)
    })
}
