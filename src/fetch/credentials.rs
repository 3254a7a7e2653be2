//! Who we are, to which host.

use std::collections::BTreeMap;
use std::fmt;

use percent_encoding::percent_decode_str;
use reqwest::Url;
use reqwest::header::HeaderValue;

/// What to tell hosts that want to know who asks. Shows nothing of it when printed.
#[derive(Clone, Default)]
pub struct Credentials {
    /// By the name that the host has in the environment.
    environment: BTreeMap<String, Secret>,
    /// From netrc, in its order.
    machines: Vec<(String, Secret)>,
    default: Option<Secret>,
}

/// One way to prove who we are.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Secret {
    Basic { user: String, password: String },
    Bearer(HeaderValue),
}

/// Credentials that can't be understood. Does not quote them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// A variable of the environment.
    #[error("{variable}: expected `user:password` or `Bearer TOKEN`")]
    Variable {
        /// Its name.
        variable: String,
    },
    /// The netrc file.
    #[error("netrc: {expected} after `{keyword}` expected, for machine {machine}")]
    Netrc {
        /// The last word that was understood.
        keyword: String,
        /// What should follow.
        expected: &'static str,
        /// The entry it is in.
        machine: String,
    },
}

const PREFIX: &str = "IMGFORGE_AUTH_";

impl Credentials {
    /// Reads the text of a netrc file, and those variables of the environment whose names begin with
    /// `IMGFORGE_AUTH_`; the others are ignored.
    ///
    /// The rest of the variable's name is the host in upper case, with `_` for a dot and `__` for a hyphen:
    /// `IMGFORGE_AUTH_MY__INDEX_EXAMPLE_ORG` is for `my-index.example.org`. Two hosts never share a name, or whoever
    /// registers `index-example.org` could collect what is meant for `index.example.org`. A port may follow: `…_8443`.
    /// The value is `user:password` or `Bearer TOKEN`.
    ///
    /// # Errors
    /// [`CredentialsError`], rather than a request without them which fails for reasons hard to guess.
    pub fn new(
        netrc: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, CredentialsError> {
        let mut credentials = Self::default();
        for (variable, value) in environment {
            if let Some(host) = variable.strip_prefix(PREFIX) {
                let secret = Secret::parse(&value)
                    .ok_or_else(|| CredentialsError::Variable { variable: variable.clone() })?;
                credentials.environment.insert(host.to_owned(), secret);
            }
        }
        credentials.read_netrc(netrc)?;
        Ok(credentials)
    }

    /// What is configured for a URL's host: the environment first, then netrc.
    pub(super) fn for_host(&self, url: &Url) -> Option<&Secret> {
        let host = url.host_str()?;
        let name: String = host.chars().map(variable_part).collect();
        let with_port = || self.environment.get(&format!("{name}_{}", url.port_or_known_default()?));
        if let Some(secret) = with_port().or_else(|| self.environment.get(&name)) {
            return Some(secret);
        }
        let machine = self.machines.iter().find(|(machine, _)| machine == host);
        machine.map(|(_, secret)| secret).or(self.default.as_ref())
    }

    /// The format has no standard; this is what curl and Python agree on: words, quoted where need be, in any
    /// arrangement of lines, with comments where a keyword may be.
    fn read_netrc(&mut self, text: &str) -> Result<(), CredentialsError> {
        let mut words = Words { rest: text };
        let mut entry: Option<(String, String, String)> = None;
        while let Some(keyword) = words.keyword() {
            let machine = entry.as_ref().map_or("", |(machine, ..)| machine).to_owned();
            let mut value = |expected| {
                let error =
                    CredentialsError::Netrc { keyword: keyword.clone(), expected, machine: machine.clone() };
                words.word().ok_or(error)
            };
            match (keyword.as_str(), &mut entry) {
                ("machine", _) => {
                    let name = value("a host")?;
                    self.add(entry.replace((name, String::new(), String::new())));
                }
                ("default", _) => self.add(entry.replace(Default::default())),
                ("login", Some((_, user, _))) => *user = value("a user")?,
                ("password", Some((_, _, password))) => *password = value("a password")?,
                ("account", Some(_)) => _ = value("an account")?,
                ("macdef", _) => words.skip_macro(),
                _ => {
                    let expected = "`machine`, `default`, `login`, `password`, `account` or `macdef`";
                    // The word itself may be a password with a space in it.
                    return Err(CredentialsError::Netrc { keyword: "…".to_owned(), expected, machine });
                }
            }
        }
        self.add(entry);
        Ok(())
    }

    fn add(&mut self, entry: Option<(String, String, String)>) {
        let Some((machine, user, password)) = entry else { return };
        let secret = Secret::Basic { user, password };
        if machine.is_empty() {
            self.default.get_or_insert(secret);
        } else {
            self.machines.push((machine.to_ascii_lowercase(), secret));
        }
    }
}

/// How a character of a host is written in the name of a variable.
fn variable_part(character: char) -> String {
    match character {
        '-' => "__".to_owned(),
        _ if character.is_ascii_alphanumeric() => character.to_ascii_uppercase().to_string(),
        _ => "_".to_owned(),
    }
}

impl Secret {
    fn parse(value: &str) -> Option<Self> {
        if let Some(token) = value.strip_prefix("Bearer ") {
            let mut header = HeaderValue::from_str(&format!("Bearer {}", token.trim())).ok()?;
            header.set_sensitive(true);
            return (!token.trim().is_empty()).then_some(Self::Bearer(header));
        }
        let (user, password) = value.split_once(':')?;
        Some(Self::Basic { user: user.to_owned(), password: password.to_owned() })
    }

    /// Those in a URL, if there are any.
    pub(super) fn of_url(url: &Url) -> Option<Self> {
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let (user, password) = (decode(url.username()), decode(url.password().unwrap_or_default()));
        (!user.is_empty() || !password.is_empty()).then_some(Self::Basic { user, password })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts = self.environment.keys().chain(self.machines.iter().map(|(machine, _)| machine));
        write!(f, "Credentials for ")?;
        f.debug_list().entries(hosts).finish()
    }
}

/// The words of a netrc file.
struct Words<'a> {
    rest: &'a str,
}

impl Words<'_> {
    /// The next word where a comment may be.
    fn keyword(&mut self) -> Option<String> {
        loop {
            self.rest = self.rest.trim_start();
            if !self.rest.starts_with('#') {
                return self.word();
            }
            self.rest = self.rest.split_once('\n').map_or("", |(_, rest)| rest);
        }
    }

    /// The next word, which may be in double quotes; a backslash takes the next character as it is.
    fn word(&mut self) -> Option<String> {
        self.rest = self.rest.trim_start();
        let mut word = String::new();
        let mut characters = self.rest.char_indices();
        let (mut is_quoted, mut is_any) = (false, false);
        let end = loop {
            match characters.next() {
                None => break self.rest.len(),
                Some((_, '"')) if is_quoted || !is_any => is_quoted = !is_quoted,
                Some((_, '\\')) => word.extend(characters.next().map(|(_, character)| character)),
                Some((at, character)) if character.is_whitespace() && !is_quoted => break at,
                Some((_, character)) => word.push(character),
            }
            is_any = true;
        };
        self.rest = self.rest.get(end..).unwrap_or_default();
        is_any.then_some(word)
    }

    /// A macro ends at an empty line.
    fn skip_macro(&mut self) {
        self.rest = self.rest.split_once("\n\n").map_or("", |(_, rest)| rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(netrc: &str, environment: &[(&str, &str)], url: &str, expected: Option<&str>) {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let credentials = Credentials::new(netrc, environment).unwrap();
        let found = credentials.for_host(&Url::parse(url).unwrap()).map(|secret| match secret {
            Secret::Basic { user, password } => format!("{user}:{password}"),
            Secret::Bearer(header) => header.to_str().unwrap().to_owned(),
        });
        assert_eq!(found.as_deref(), expected, "{netrc} {url}");
    }

    #[test]
    fn netrc_by_host() {
        let netrc = "# ours\nmachine a.example.org login me password s3cret\nmachine B.example.org\n  login you # \
                     not me\n  password \"with space\\\"#\"\n";
        check(netrc, &[], "https://a.example.org/x", Some("me:s3cret"));
        check(netrc, &[], "https://b.example.org:444/x", Some("you:with space\"#"));
        check(netrc, &[], "https://example.org/x", None);
        check("", &[], "https://example.org/x", None);
    }

    #[test]
    fn netrc_default_macros_and_order() {
        let netrc = "machine a.org login 1 password 2 account 3\nmacdef init\nput machine x\n\nmachine a.org login 4 \
                     password 5 default login anon password #at";
        check(netrc, &[], "https://a.org/", Some("1:2"));
        check(netrc, &[], "https://other.org/", Some("anon:#at"));
        check("machine a.org password only", &[], "https://a.org/", Some(":only"));
    }

    #[test]
    fn netrc_errors_quote_no_secret() {
        for netrc in
            ["machine", "machine a login x password", "machine a login x password y secret", "login x"]
        {
            let error = Credentials::new(netrc, []).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn environment_by_host_and_port() {
        let environment = [
            ("IMGFORGE_AUTH_A_EXAMPLE_ORG", "me:with:colon"),
            ("IMGFORGE_AUTH_A_EXAMPLE_ORG_8443", "Bearer token"),
            ("IMGFORGE_AUTH_B__C_ORG", "x:"),
            ("OTHER", "nonsense"),
        ];
        let netrc = "machine a.example.org login no password no";
        check(netrc, &environment, "https://a.example.org/", Some("me:with:colon"));
        check(netrc, &environment, "https://a.example.org:8443/", Some("Bearer token"));
        check(netrc, &environment, "https://b-c.org/", Some("x:"));
        check(netrc, &environment, "https://b.c.org/", None);
        check(netrc, &environment, "https://a-example.org/", None);
    }

    #[test]
    fn a_variable_in_no_known_form_is_refused() {
        for value in ["token", "Bearer ", "Bearer a\nb", ""] {
            let error = Credentials::new("", [("IMGFORGE_AUTH_A".to_owned(), value.to_owned())]).unwrap_err();
            assert_eq!(error.to_string(), "IMGFORGE_AUTH_A: expected `user:password` or `Bearer TOKEN`");
        }
    }
}
