//! Simple tokens: random letters and the index of the entry that made them (AU-42).
//!
//! Every member makes the same tokens from the log and forgets them by its own clock, which the
//! owner passes in; applying an entry needs none.

use std::collections::BTreeMap;

use etcdrs_types::LogIndex;

/// Random letters at the front of a token.
pub const TOKEN_LETTERS: usize = 16;

/// The tokens of those who logged in. In memory only: after a restart everybody logs in again.
#[derive(Clone, Debug, Default)]
pub struct SimpleTokens {
    tokens: BTreeMap<String, Token>,
}

#[derive(Clone, Debug)]
struct Token {
    user: String,
    /// Milliseconds of the owner's clock; `None` until it looked at the token once.
    ends_at: Option<u64>,
}

impl SimpleTokens {
    /// The token that letters and the entry's index make.
    #[must_use]
    pub fn name(letters: &str, index: LogIndex) -> String {
        format!("{letters}.{}", index.0)
    }

    /// The index of the entry that made `token`: before it is applied, a member cannot judge.
    /// `None` if this is no simple token.
    #[must_use]
    pub fn made_at(token: &str) -> Option<LogIndex> {
        let (_, index) = token.split_once('.')?;
        index.parse().ok().map(LogIndex)
    }

    /// Remembers that `user` logged in.
    pub fn add(&mut self, token: String, user: String) {
        self.tokens.insert(token, Token { user, ends_at: None });
    }

    /// Whose token it is. It lives on for `ttl_ms` from `now_ms`.
    pub fn user(&mut self, token: &str, now_ms: u64, ttl_ms: u64) -> Option<&str> {
        let found = self.tokens.get_mut(token)?;
        if found.ends_at.is_some_and(|end| end <= now_ms) {
            return None;
        }
        found.ends_at = Some(now_ms.saturating_add(ttl_ms));
        Some(&found.user)
    }

    /// Forgets tokens that were not used for `ttl_ms`; to be called now and then.
    pub fn sweep(&mut self, now_ms: u64, ttl_ms: u64) {
        self.tokens.retain(|_, token| {
            *token.ends_at.get_or_insert(now_ms.saturating_add(ttl_ms)) > now_ms
        });
    }

    /// Forgets the tokens of a user (AU-06, AU-07).
    pub fn forget_user(&mut self, user: &str) {
        self.tokens.retain(|_, token| token.user != user);
    }

    /// Forgets all (AU-02).
    pub fn clear(&mut self) {
        self.tokens.clear();
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn au_42_row_131_tokens_slide_and_end() {
        let mut tokens = SimpleTokens::default();
        let token = SimpleTokens::name("abcdefghijklmnop", LogIndex(42));
        assert_eq!(token, "abcdefghijklmnop.42");
        assert_eq!(SimpleTokens::made_at(&token), Some(LogIndex(42)));
        for bad in ["bogus", "bogus.", "bogus.x", ".-1", ""] {
            assert_eq!(SimpleTokens::made_at(bad), None, "{bad}");
        }
        tokens.add(token.clone(), "alice".into());
        assert_eq!(tokens.user(&token, 1000, 300), Some("alice"));
        assert_eq!(tokens.user(&token, 1299, 300), Some("alice"), "use keeps it");
        assert_eq!(tokens.user(&token, 1598, 300), Some("alice"));
        assert_eq!(tokens.user(&token, 1898, 300), None);
        assert_eq!(tokens.user("bogus.1", 1000, 300), None);
        tokens.sweep(1898, 300);
        assert!(tokens.is_empty());
    }

    #[test]
    fn a_token_that_was_never_used_ends_too() {
        let mut tokens = SimpleTokens::default();
        tokens.add("a.1".into(), "alice".into());
        tokens.sweep(1000, 300);
        assert_eq!(tokens.len(), 1);
        tokens.sweep(1300, 300);
        assert!(tokens.is_empty());
    }

    #[test]
    fn users_and_all_can_be_forgotten() {
        let mut tokens = SimpleTokens::default();
        for (token, user) in [("a.1", "alice"), ("b.2", "bob"), ("c.3", "alice")] {
            tokens.add(token.into(), user.into());
        }
        tokens.forget_user("alice");
        assert_eq!(tokens.user("b.2", 0, 1), Some("bob"));
        assert_eq!(tokens.len(), 1);
        tokens.clear();
        assert!(tokens.is_empty());
    }
}
