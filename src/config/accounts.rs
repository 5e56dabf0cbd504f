//! The settings of accounts, and of the proxies whose word counts.

use crate::domain::Network;

/// On or off.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.trim() {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("must be on or off".to_owned()),
    }
}

/// Networks, separated by commas. An empty text is an empty list.
pub(super) fn networks(text: &str) -> Result<Vec<Network>, String> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    text.split(',').map(|network| network.trim().parse::<Network>().map_err(|error| error.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_a_list_without_empty_ones() {
        assert_eq!(networks(" 10.0.0.0/8 ,fd00::/8").unwrap().len(), 2);
        assert_eq!((networks(""), networks(" ")), (Ok(Vec::new()), Ok(Vec::new())));
        assert!([",", "10.0.0.0/8,", "10.0.0.1/8", "proxy"].iter().all(|text| networks(text).unwrap_err().starts_with("must be networks")));
        assert_eq!((switch("on"), switch(" off "), switch("true").is_err()), (Ok(true), Ok(false), true));
    }
}
