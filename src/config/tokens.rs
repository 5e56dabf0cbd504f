//! The settings of tokens: issuers and audiences, and the address of a server of keys.

/// Names, separated by commas. An empty text is an empty list.
pub(super) fn names(text: &str) -> Result<Vec<String>, String> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let name = |word: &str| match word.trim() {
        "" => Err("must be names, separated by commas, none of them empty".to_owned()),
        word => Ok(word.to_owned()),
    };
    text.split(',').map(name).collect()
}

/// The address of a server of keys. It may stand in error messages of others, so it holds no password.
pub(super) fn keys_url(text: &str) -> Result<Option<reqwest::Url>, String> {
    const EXPECTED: &str = "must be an address such as https://issuer.example/.well-known/jwks.json, without a user and a password";
    if text.is_empty() {
        return Ok(None);
    }
    let url = reqwest::Url::parse(text.trim()).map_err(|_| EXPECTED)?;
    let is_fit = matches!(url.scheme(), "https" | "http") && url.has_host() && url.username().is_empty() && url.password().is_none();
    if is_fit { Ok(Some(url)) } else { Err(EXPECTED.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_a_list_without_empty_ones() {
        assert_eq!(names(" https://a.example/ , b"), Ok(vec!["https://a.example/".to_owned(), "b".to_owned()]));
        assert_eq!((names(""), names(" ")), (Ok(Vec::new()), Ok(Vec::new())));
        assert!([",", "a,", "a,,b"].iter().all(|text| names(text).is_err()));
    }

    #[test]
    fn the_address_of_keys_is_one_of_http_and_holds_no_password() {
        assert_eq!(keys_url("").unwrap(), None);
        for address in ["https://issuer.example/.well-known/jwks.json", "http://127.0.0.1:9/keys?x=1"] {
            assert_eq!(keys_url(address).unwrap().unwrap().as_str(), address);
        }
        for wrong in ["issuer.example", "/keys", "file:///keys", "ftp://a/b", "https://user:hush@a/b", "https://user@a/b", "https://"] {
            let error = keys_url(wrong).unwrap_err();
            assert!(error.starts_with("must be an address") && !error.contains("hush"), "{wrong}");
        }
    }
}
