//! Tokens: what a registry has us ask another server for.
//!
//! Source: Docker's token authentication specification, by GET; its OAuth 2 extension, by POST.

use std::time::{Duration, Instant};

use imgforge_http::{Hop, Reason, Request, Response, Trouble, basic, follow, redacted};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;

use crate::auth::{Secret, realm_may_have};
use crate::client::{is_loopback, place};
use crate::scope::Scope;
use crate::session::{Grant, bearer};
use crate::{Repository, said};

/// Bytes of a token server's answer, at most.
const MAX_ANSWER: u64 = 256 << 10;

/// How long a token is good that does not say so. Source: Docker's token authentication specification.
const LIFETIME: u64 = 60;

/// How long a token is believed to be good, at most; a longer time may be too much to count with.
const LONGEST_LIFETIME: u64 = 24 * 60 * 60;

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<serde_json::Number>,
}

impl Repository<'_> {
    /// Gets a token for what the registry says is wanted and for what we want.
    pub(crate) fn token(
        &self,
        base: &Url,
        realm: &Url,
        service: Option<&str>,
        wanted: &Scope,
        scope: &Scope,
        secret: Option<&Secret>,
    ) -> Result<Grant, Trouble> {
        let host = &self.host.name;
        let wrong = |text: String| Trouble::Final(Reason::Credentials(text));
        let shown = redacted(realm.as_str());
        // A registry that is spoken to in the clear may have such a token server, and one on this machine anyone.
        let is_clear = realm.scheme() == "http";
        if !matches!(realm.scheme(), "http" | "https")
            || (is_clear && base.scheme() == "https" && !is_loopback(realm))
        {
            return Err(wrong(format!("{host} sends us for a token to {shown}, where none is asked for")));
        }
        let own;
        let secret = match realm_may_have(base, realm) {
            true => secret,
            false => {
                let found = self.client.keychain().lookup(&place(realm), "");
                own = found.map_err(|error| wrong(error.to_string()))?;
                own.as_ref()
            }
        };
        let ask = |scope: &Scope| self.ask_for_token(realm, service, scope, secret);
        let asked = Instant::now();
        let all = wanted.clone().and(scope);
        let (granted, response) = (scope.clone(), ask(&all)?);
        let (granted, response) = match response.status() {
            // Some refuse the whole when a part is refused, such as reading what was only hoped to be mounted.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if all != self.least(scope) => {
                (granted, ask(&self.least(scope))?)
            }
            _ => (granted, response),
        };
        let status = response.status();
        if !status.is_success() {
            return Err(self.no_token(response, &shown, secret));
        }
        let bytes = response.bytes(MAX_ANSWER).map_err(|trouble| match trouble {
            Trouble::Final(Reason::TooLong { .. }) => wrong(format!(
                "{shown} answers {status}, with more than {MAX_ANSWER} bytes instead of a token"
            )),
            trouble => trouble,
        })?;
        // The parser's words may quote what it read.
        let answer = serde_json::from_slice::<Answer>(&bytes)
            .map_err(|_| wrong(format!("{shown} answers {status}, but not with a token")))?;
        let token = answer.token.filter(|token| !token.is_empty()).or(answer.access_token);
        let header = token.as_deref().and_then(bearer);
        let header =
            header.ok_or_else(|| wrong(format!("{shown} answers {status}, but not with a token")))?;
        let lifetime = answer.expires_in.and_then(|number| number.as_u64()).unwrap_or(LIFETIME);
        let until = asked + Duration::from_secs(lifetime.clamp(LIFETIME, LONGEST_LIFETIME));
        Ok(Grant { repository: self.name.clone(), scope: Some(granted), header, until: Some(until) })
    }

    /// What there is no doing without: this repository's part.
    fn least(&self, scope: &Scope) -> Scope {
        let push = Scope::push(&self.name);
        if scope.covers(&push) { push } else { Scope::pull(&self.name) }
    }

    fn ask_for_token(
        &self,
        realm: &Url,
        service: Option<&str>,
        scope: &Scope,
        secret: Option<&Secret>,
    ) -> Result<Response, Trouble> {
        let accept = HeaderValue::from_static("application/json");
        let request = match secret {
            Some(Secret::IdentityToken(token)) => {
                let scopes: Vec<_> = scope.words().collect();
                let mut form =
                    Url::parse("form:").map_err(|error| Trouble::Final(Reason::Url(error.to_string())))?;
                form.query_pairs_mut()
                    .append_pair("grant_type", "refresh_token")
                    .append_pair("refresh_token", token)
                    .append_pair("client_id", "imgforge")
                    .append_pair("service", service.unwrap_or_default())
                    .append_pair("scope", &scopes.join(" "));
                let body = form.query().unwrap_or_default().to_owned();
                Request { body: body.into(), ..Request::new(Method::POST, realm.clone()) }
                    .header(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"))
            }
            _ => {
                let mut url = realm.clone();
                if let Some(service) = service {
                    url.query_pairs_mut().append_pair("service", service);
                }
                for word in scope.words() {
                    url.query_pairs_mut().append_pair("scope", &word);
                }
                Request::new(Method::GET, url)
            }
        };
        let origin = realm.origin();
        let carry = |hop: &Hop<'_>, request: Request| {
            if hop.is_downgrade() && !is_loopback(hop.url) {
                let to = redacted(hop.url.as_str());
                return Err(Trouble::Final(Reason::Redirect(format!("out of TLS, to {to}"))));
            }
            let http = self.client.http(hop.url)?;
            http.send(&match secret {
                Some(Secret::Basic { user, password }) if hop.url.origin() == origin => {
                    request.header(AUTHORIZATION, basic(user, password))
                }
                _ => request,
            })
        };
        follow(&request.header(ACCEPT, accept), &carry)
    }

    fn no_token(&self, response: Response, shown: &str, secret: Option<&Secret>) -> Trouble {
        let host = &self.host.name;
        let trouble = response.refusal();
        let Trouble::Final(Reason::Status(status)) = trouble else { return trouble };
        let secrets = match secret {
            Some(Secret::Basic { password, .. }) => vec![password.clone()],
            Some(Secret::IdentityToken(token) | Secret::RegistryToken(token)) => vec![token.clone()],
            None => Vec::new(),
        };
        let mut text = match (secret, status) {
            (Some(_), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                format!("{shown} does not accept the credentials for {host} ({status})")
            }
            (None, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => format!(
                "{shown} gives no token for {host} to those without credentials ({status}); log in with `podman login \
                 {host}` or `docker login {host}`"
            ),
            _ => format!("{shown} gives no token for {host} ({status})"),
        };
        for words in said::words(response, &secrets) {
            text.push_str("; ");
            text.push_str(&words);
        }
        Trouble::Final(Reason::Credentials(text))
    }
}
