//! Requests that say who we are, where that is asked for and may be said.
//!
//! The first request to a repository goes without credentials. The registry's challenge says what it wants, and what
//! it was given then goes with all further requests to its origin: to no other one, wherever a redirect or the place of
//! an upload leads. A grant that is refused later is replaced once per request.

use std::io::Read;
use std::time::{Duration, Instant};

use imgforge_http::{Halt, Hop, Reason, Request, Response, Trouble, follow, redacted};
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{StatusCode, Url};

use crate::auth::{Challenge, Secret, challenges};
use crate::client::{is_loopback, lock};
use crate::scope::Scope;
use crate::{Repository, said};

/// What a registry takes for a proof of who we are.
#[derive(Clone)]
pub(crate) struct Grant {
    /// For whom it was got: the keychain may have several accounts on one host.
    pub(crate) repository: String,
    /// What it allows; none when that is not said, as with a password.
    pub(crate) scope: Option<Scope>,
    pub(crate) header: HeaderValue,
    /// When it lapses, if ever.
    pub(crate) until: Option<Instant>,
}

impl Repository<'_> {
    /// Sends a request, with what it takes to be let in, and returns the answer, whatever it says but for 401.
    pub(crate) fn send(&self, request: &Request, scope: &Scope) -> Result<Response, Trouble> {
        let base = self.client.base(&self.host)?;
        let mut has_asked = false;
        loop {
            let grant = self.grant(scope);
            let carry =
                |hop: &Hop<'_>, request: Request| self.carry(&base, grant.as_ref(), hop, request, None);
            let response = follow(request, &carry)?;
            if response.status() != StatusCode::UNAUTHORIZED {
                return Ok(response);
            }
            if has_asked {
                return Err(self.not_accepted(&base, response));
            }
            self.authorise(&base, response, scope, grant.as_ref())?;
            has_asked = true;
        }
    }

    /// Sends what can be read once, to the place of an upload. Where that wants to know who we are, it is asked what it
    /// takes, and the trouble passes: the caller begins again from where the upload stands.
    pub(crate) fn send_content(
        &self,
        request: &Request,
        scope: &Scope,
        content: &mut dyn Read,
        length: u64,
        on_sent: &mut dyn FnMut(u64) -> Result<(), Halt>,
    ) -> Result<Response, Trouble> {
        let base = self.client.base(&self.host)?;
        let grant = self.grant(scope);
        let is_home = request.url.origin() == base.origin();
        let hop = Hop { url: &request.url, from: None, is_home };
        let upload = Upload { content, length, on_sent };
        let response = self.carry(&base, grant.as_ref(), &hop, request.clone(), Some(upload))?;
        if response.status().is_redirection() {
            let reason = Reason::Redirect("in the middle of an upload".to_owned());
            return Err(Trouble::Final(reason));
        }
        if response.status() == StatusCode::UNAUTHORIZED {
            self.authorise(&base, response, scope, grant.as_ref())?;
            let reason = Reason::Status(StatusCode::UNAUTHORIZED);
            return Err(Trouble::Passing { reason, wait: Some(Duration::ZERO) });
        }
        Ok(response)
    }

    /// One hop. Credentials go to the registry's own origin, and nowhere else.
    fn carry(
        &self,
        base: &Url,
        grant: Option<&Grant>,
        hop: &Hop<'_>,
        mut request: Request,
        upload: Option<Upload<'_>>,
    ) -> Result<Response, Trouble> {
        if hop.is_downgrade() && !is_loopback(hop.url) {
            let to = redacted(hop.url.as_str());
            return Err(Trouble::Final(Reason::Redirect(format!("out of TLS, to {to}"))));
        }
        let is_home = hop.url.origin() == base.origin();
        if let (Some(grant), true) = (grant, is_home) {
            request.headers.insert(AUTHORIZATION, grant.header.clone());
        }
        let http = self.client.http(hop.url)?;
        let result = match upload {
            Some(upload) => http.upload(&request, upload.content, upload.length, upload.on_sent),
            None => http.send(&request),
        };
        result.map_err(|trouble| match trouble {
            Trouble::Passing { reason: Reason::Connection(text), wait } if hop.url.scheme() == "https" => {
                self.without_tls(text, wait, hop.url, is_home)
            }
            trouble => trouble,
        })
    }

    /// Says what a failure has to do with TLS, where it has.
    fn without_tls(&self, text: String, wait: Option<Duration>, url: &Url, is_home: bool) -> Trouble {
        let host = &self.host.name;
        let advice = format!("where {host} is meant to be spoken to without TLS, give `--plain-http {host}`");
        // What rustls makes of words in the clear.
        let is_clear = text.contains("InvalidContentType");
        match (is_home, is_clear) {
            (true, true) => Trouble::Final(Reason::Protocol(format!("{host} does not speak TLS; {advice}"))),
            (false, true) => {
                Trouble::Final(Reason::Protocol(format!("{} does not speak TLS", redacted(url.as_str()))))
            }
            (true, false) if text.contains("Connection refused") && !is_loopback(url) => {
                Trouble::Passing { reason: Reason::Connection(format!("{text}; {advice}")), wait }
            }
            _ => Trouble::Passing { reason: Reason::Connection(text), wait },
        }
    }

    /// What was granted before and is good for this.
    fn grant(&self, scope: &Scope) -> Option<Grant> {
        let mut grants = lock(&self.host.grants);
        grants.retain(|grant| grant.until.is_none_or(|until| Instant::now() < until));
        let is_good = |grant: &&Grant| {
            grant.repository == self.name && grant.scope.as_ref().is_none_or(|own| own.covers(scope))
        };
        grants.iter().find(is_good).cloned()
    }

    /// Gets a grant, after an answer that asks for one. `refused` is what was sent in vain.
    fn authorise(
        &self,
        base: &Url,
        response: Response,
        scope: &Scope,
        refused: Option<&Grant>,
    ) -> Result<(), Trouble> {
        if response.url().origin() != base.origin() {
            let elsewhere = redacted(response.url().as_str());
            let host = &self.host.name;
            return Err(Trouble::Final(Reason::Credentials(format!(
                "{host} sends us to {elsewhere}, which wants credentials; those for {host} are not for it"
            ))));
        }
        let _asking = lock(&self.host.asking);
        // Somebody else may have got one meanwhile.
        if let Some(grant) = self.grant(scope)
            && refused.is_none_or(|refused| refused.header != grant.header)
        {
            return Ok(());
        }
        if let Some(refused) = refused {
            lock(&self.host.grants).retain(|grant| grant.header != refused.header);
        }
        let grant = self.ask(base, &response, scope, refused)?;
        lock(&self.host.grants).push(grant);
        Ok(())
    }

    fn ask(
        &self,
        base: &Url,
        response: &Response,
        scope: &Scope,
        refused: Option<&Grant>,
    ) -> Result<Grant, Trouble> {
        let host = &self.host.name;
        let wrong = |text: String| Trouble::Final(Reason::Credentials(text));
        let secret = self.client.keychain().lookup(host, &self.name);
        let secret = secret.map_err(|error| wrong(error.to_string()))?;
        let offered = challenges(response.headers());
        let whole =
            |header: HeaderValue| Grant { repository: self.name.clone(), scope: None, header, until: None };
        if let Some(Secret::RegistryToken(token)) = &secret {
            let header = bearer(token)
                .ok_or_else(|| wrong(format!("the registry token for {host} can't be sent in a header")))?;
            return self.unless_refused(whole(header), refused);
        }
        let bearer = offered.iter().find(|challenge| matches!(challenge, Challenge::Bearer { .. }));
        if let Some(Challenge::Bearer { realm, service, scope: wanted }) = bearer {
            let wanted = wanted.as_deref().map(Scope::parse).unwrap_or_default();
            return self.token(base, realm, service.as_deref(), &wanted, scope, secret.as_ref());
        }
        match (offered.contains(&Challenge::Basic), secret) {
            (true, Some(Secret::Basic { user, password })) => {
                self.unless_refused(whole(imgforge_http::basic(&user, &password)), refused)
            }
            (true, _) => Err(wrong(format!(
                "{host} wants a user and a password, and there are none for it; log in with `podman login {host}` or \
                 `docker login {host}`"
            ))),
            (false, _) => Err(wrong(format!(
                "{host} wants credentials ({}), and does not say of which kind",
                response.status()
            ))),
        }
    }

    /// What does not change is not tried twice.
    fn unless_refused(&self, grant: Grant, refused: Option<&Grant>) -> Result<Grant, Trouble> {
        match refused {
            Some(refused) if refused.header == grant.header => {
                Err(Trouble::Final(Reason::Credentials(self.log_in(true))))
            }
            _ => Ok(grant),
        }
    }

    /// What 401 means to those who were just given what was asked for.
    fn not_accepted(&self, base: &Url, response: Response) -> Trouble {
        if response.url().origin() != base.origin() {
            return self.refusal(response);
        }
        let found = self.client.keychain().lookup(&self.host.name, &self.name);
        let mut text = self.log_in(matches!(found, Ok(Some(_))));
        for words in said::words(response, &self.secrets()) {
            text.push_str("; ");
            text.push_str(&words);
        }
        Trouble::Final(Reason::Credentials(text))
    }

    fn log_in(&self, has_credentials: bool) -> String {
        let host = &self.host.name;
        let (problem, again) = match has_credentials {
            true => ("does not accept the credentials for it (401)", " again"),
            false => ("wants credentials (401), and there are none for it", ""),
        };
        format!("{host} {problem}; log in{again} with `podman login {host}` or `docker login {host}`")
    }

    /// What must not be shown of what a server repeats.
    fn secrets(&self) -> Vec<String> {
        let headers: Vec<_> = lock(&self.host.grants).iter().map(|grant| grant.header.clone()).collect();
        said::secrets_in(&headers)
    }

    /// What an answer means that was not hoped for, with the registry's own words.
    pub(crate) fn refusal(&self, response: Response) -> Trouble {
        let trouble = response.refusal();
        let Trouble::Final(Reason::Status(status)) = trouble else { return trouble };
        let base = self.client.base(&self.host).ok();
        let is_elsewhere = base.is_some_and(|base| base.origin() != response.url().origin());
        let url = redacted(response.url().as_str());
        let mut words = said::words(response, &self.secrets());
        if is_elsewhere {
            words.insert(0, format!("from {url}, where the registry sends us"));
        }
        match words.is_empty() {
            true => Trouble::Final(Reason::Status(status)),
            false => Trouble::Final(Reason::Refused { status, said: words.join("; ") }),
        }
    }
}

/// What is sent in place of a body in memory.
struct Upload<'a> {
    content: &'a mut dyn Read,
    length: u64,
    on_sent: &'a mut dyn FnMut(u64) -> Result<(), Halt>,
}

/// A token as it is sent; none for one that can't be.
pub(crate) fn bearer(token: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    header.set_sensitive(true);
    (!token.is_empty()).then_some(header)
}
