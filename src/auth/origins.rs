//! The origins (RFC 6454) whose pages may use the service: every one, or those that a setting lists. A browser names the
//! origin of a page in the header `Origin`; other programs send none.
//!
//! Tokens are sent on purpose and never by the browser itself, so a list protects nobody's account. It keeps pages of
//! others from using a token that they were given.

use std::sync::Arc;

use axum::http::header::ORIGIN;
use axum::http::{HeaderMap, HeaderValue};

/// The origins whose pages may use the service. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Origins {
    /// All of them.
    #[default]
    Every,
    /// These, as browsers write them: `https://chat.example`, in small letters and without a default port.
    Listed(Arc<[HeaderValue]>),
}

impl Origins {
    /// The origins of a checked list; an empty one stands for every origin.
    pub fn of(list: &[String]) -> Self {
        if list.is_empty() {
            return Self::Every;
        }
        // A text that is no header value is no origin that a browser could send.
        Self::Listed(list.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect())
    }

    /// Returns whether a request may come from where it says. One without `Origin` comes from no page.
    pub fn allow(&self, headers: &HeaderMap) -> bool {
        match self {
            Self::Every => true,
            Self::Listed(listed) => headers.get_all(ORIGIN).iter().all(|origin| listed.contains(origin)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_may_come_from_a_listed_origin_only_and_a_program_from_anywhere() {
        let listed = Origins::of(&["https://chat.example".to_owned(), "http://localhost:3000".to_owned()]);
        let allowed = |origins: &[&'static str]| {
            let mut headers = HeaderMap::new();
            origins.iter().for_each(|origin| _ = headers.append(ORIGIN, HeaderValue::from_static(origin)));
            listed.allow(&headers)
        };
        assert!(allowed(&[]) && allowed(&["https://chat.example"]) && allowed(&["http://localhost:3000"]));
        for other in ["http://chat.example", "https://chat.example.evil", "https://chat.example:444", "null", "", "*"] {
            assert!(!allowed(&[other]), "{other}");
            assert!(!allowed(&["https://chat.example", other]), "{other}");
        }
        assert_eq!(Origins::of(&[]), Origins::Every);
    }
}
