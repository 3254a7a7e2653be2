use std::collections::{BTreeMap, BTreeSet};

/// What a token is to allow: actions, by type and name of what they are done to.
///
/// Source: Docker's token authentication specification, "Token scope documentation".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scope(BTreeMap<String, BTreeSet<String>>);

impl Scope {
    /// To read from a repository.
    pub(crate) fn pull(repository: &str) -> Self {
        Self::parse(&format!("repository:{repository}:pull"))
    }

    /// To write to a repository.
    pub(crate) fn push(repository: &str) -> Self {
        Self::parse(&format!("repository:{repository}:pull,push"))
    }

    /// Reads what a challenge asks for: scopes with spaces between them. One that has no actions is kept as it is.
    pub(crate) fn parse(text: &str) -> Self {
        let mut scope = Self::default();
        for word in text.split_ascii_whitespace() {
            let (name, actions) = match word.rsplit_once(':') {
                Some((name, actions)) if name.contains(':') => (name, actions),
                _ => (word, ""),
            };
            let actions = actions.split(',').filter(|action| !action.is_empty()).map(str::to_owned);
            scope.0.entry(name.to_owned()).or_default().extend(actions);
        }
        scope
    }

    /// Both.
    #[must_use]
    pub(crate) fn and(mut self, other: &Self) -> Self {
        for (name, actions) in &other.0 {
            self.0.entry(name.clone()).or_default().extend(actions.iter().cloned());
        }
        self
    }

    /// Whether what allows this allows the other.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let is_covered = |(name, actions): (&String, &BTreeSet<String>)| {
            self.0.get(name).is_some_and(|own| own.is_superset(actions))
        };
        other.0.iter().all(is_covered)
    }

    /// One scope per name, as a token server is asked for them.
    pub(crate) fn words(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(name, actions)| {
            let actions: Vec<_> = actions.iter().map(String::as_str).collect();
            if actions.is_empty() { name.clone() } else { format!("{name}:{}", actions.join(",")) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        assert_eq!(Scope::parse(text).words().collect::<Vec<_>>().join(" "), expected, "{text}");
    }

    #[test]
    fn words_are_merged_by_name() {
        check("repository:team/app:pull", "repository:team/app:pull");
        check("repository:b:push,pull  repository:a:pull", "repository:a:pull repository:b:pull,push");
        check("repository:a:pull repository:a:push", "repository:a:pull,push");
        check("repository:localhost:5000/a:pull", "repository:localhost:5000/a:pull");
        check("repository(plugin):a:pull", "repository(plugin):a:pull");
        check("aws", "aws");
        check("registry:catalog", "registry:catalog");
        check("", "");
    }

    #[test]
    fn what_covers_what() {
        let (pull, push) = (Scope::pull("a"), Scope::push("a"));
        assert!(push.covers(&pull) && !pull.covers(&push));
        assert!(!push.covers(&Scope::pull("b")));
        assert!(push.clone().and(&Scope::pull("b")).covers(&Scope::pull("b")));
        assert!(pull.covers(&Scope::default()));
    }
}
