//! Where the servers are: `host:port`, several separated by `;` or `,`.

use crate::limits::ENDPOINTS_MAX;
use std::fmt;
use std::str::FromStr;

/// At least one `host:port`, in the order in which they are tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints(Vec<String>);

impl Endpoints {
    /// The addresses, each `host:port`.
    pub fn addresses(&self) -> &[String] {
        &self.0
    }
}

impl FromStr for Endpoints {
    type Err = String;

    fn from_str(text: &str) -> Result<Endpoints, String> {
        let addresses: Vec<String> = text
            .split([';', ','])
            .map(|part| part.trim().trim_start_matches("http://").to_owned())
            .filter(|part| !part.is_empty())
            .collect();
        if addresses.is_empty() {
            return Err("no address given, expected host:port".to_owned());
        }
        if addresses.len() > ENDPOINTS_MAX {
            return Err(format!("{} addresses are more than {ENDPOINTS_MAX}", addresses.len()));
        }
        addresses.iter().try_for_each(|address| check_address(address))?;
        Ok(Endpoints(addresses))
    }
}

impl fmt::Display for Endpoints {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.join(";"))
    }
}

/// `host:port` with a port that fits.
pub fn check_address(address: &str) -> Result<(), String> {
    match address.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(()),
        _ => Err(format!("{address:?} is no address, expected host:port")),
    }
}

#[cfg(test)]
mod tests {
    use super::Endpoints;

    #[test]
    fn several_separators_one_order() {
        let endpoints: Endpoints = "127.0.0.1:8081; b:8082,c:8083".parse().expect("valid");
        assert_eq!(endpoints.addresses(), ["127.0.0.1:8081", "b:8082", "c:8083"]);
        assert_eq!(endpoints.to_string(), "127.0.0.1:8081;b:8082;c:8083");
    }

    #[test]
    fn refuses_what_is_no_address() {
        for text in ["", ";", "host", "host:", ":1", "host:70000"] {
            assert!(text.parse::<Endpoints>().is_err(), "{text:?} was taken");
        }
    }
}
