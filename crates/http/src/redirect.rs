use std::time::Duration;

use data_encoding::BASE64;
use reqwest::header::{DATE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Method, StatusCode, Url};

use crate::{Reason, Request, Response, Trouble, redacted};

/// How often a request may be sent on.
const REDIRECTS: usize = 10;

/// One step of a request's way.
#[derive(Clone, Copy, Debug)]
pub struct Hop<'a> {
    /// Where it goes.
    pub url: &'a Url,
    /// Who sends it there; none for the first step.
    pub from: Option<&'a Url>,
    /// Whether that is the origin (scheme, host and port) that the request was for.
    pub is_home: bool,
}

impl Hop<'_> {
    /// Whether it leads from TLS into the clear.
    pub fn is_downgrade(&self) -> bool {
        self.from.is_some_and(|from| from.scheme() == "https") && self.url.scheme() == "http"
    }
}

/// Sends a request one hop on, with what proves who we are there, if anything may; or refuses to.
pub type Carry<'a> = &'a dyn Fn(&Hop<'_>, Request) -> Result<Response, Trouble>;

/// Sends a request, and on to where it is redirected: what only asks, anywhere; what changes something, within its
/// origin. Returns the answer at the end, whatever it says.
///
/// # Errors
/// [`Reason::Redirect`] for one that is not followed, and what `carry` returns.
pub fn follow(request: &Request, carry: Carry<'_>) -> Result<Response, Trouble> {
    let home = request.url.origin();
    let mut url = bare(&request.url);
    let mut from = None;
    for _ in 0..=REDIRECTS {
        let hop = Hop { url: &url, from: from.as_ref(), is_home: url.origin() == home };
        let response = carry(&hop, Request { url: url.clone(), ..request.clone() })?;
        let status = response.status();
        if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
            return Ok(response);
        }
        let next = next(&url, response.headers())?;
        if !matches!(request.method, Method::GET | Method::HEAD)
            && (!matches!(status.as_u16(), 307 | 308) || next.origin() != home)
        {
            let to = redacted(next.as_str());
            return Err(Trouble::Final(Reason::Redirect(format!("to {to}, which only reading may be"))));
        }
        from = Some(std::mem::replace(&mut url, next));
    }
    Err(Trouble::Final(Reason::Redirect(format!("more than {REDIRECTS} times"))))
}

impl Response {
    /// The answer if it is a good one.
    ///
    /// # Errors
    /// [`refusal`](Self::refusal) for anything but success.
    pub fn accepted(self) -> Result<Self, Trouble> {
        if self.status().is_success() { Ok(self) } else { Err(self.refusal()) }
    }

    /// What an answer means that was not hoped for: whether it may pass, and when to come back.
    pub fn refusal(&self) -> Trouble {
        let status = self.status();
        let is_passing = status.is_server_error()
            || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        match retry_after(self.headers()) {
            Some(wait) if is_passing => {
                Trouble::Passing { reason: Reason::Busy { status, wait }, wait: Some(wait) }
            }
            None if is_passing => Trouble::passing(Reason::Status(status)),
            _ => Trouble::Final(Reason::Status(status)),
        }
    }

    /// A header's value, where it is text.
    pub fn header(&self, name: &HeaderName) -> Option<&str> {
        text(self.headers(), name)
    }
}

/// The URL without credentials. What a request says of us is in its headers; the library would make some of a user in
/// the URL by itself.
pub fn bare(url: &Url) -> Url {
    let mut url = url.clone();
    // These fail for URLs that can't have credentials, which then have none.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

/// What proves who we are to a host that asks for a name and a password. Source: RFC 7617.
///
/// It is marked as sensitive: nothing shows it.
pub fn basic(user: &str, password: &str) -> HeaderValue {
    let text = format!("Basic {}", BASE64.encode(format!("{user}:{password}").as_bytes()));
    // The alphabet of base64 has nothing that a header can't have.
    let mut value = HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("Basic"));
    value.set_sensitive(true);
    value
}

/// Where a redirect leads. Credentials in it are not ours, and are dropped.
fn next(url: &Url, headers: &HeaderMap) -> Result<Url, Trouble> {
    let wrong = |text: String| Trouble::Final(Reason::Redirect(text));
    let location = text(headers, &LOCATION).ok_or_else(|| wrong("to nowhere".to_owned()))?;
    let next = url.join(location).map_err(|error| wrong(format!("to what is no URL: {error}")))?;
    match next.scheme() {
        "http" | "https" => Ok(bare(&next)),
        _ => Err(wrong(format!("to {}", redacted(next.as_str())))),
    }
}

/// How long the server asks to wait. A date counts from the server's own clock. Source: RFC 9110, section 10.2.3.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = text(headers, &RETRY_AFTER)?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    let now = httpdate::parse_http_date(text(headers, &DATE)?).ok()?;
    Some(until.duration_since(now).unwrap_or_default())
}

pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_wait(headers: &[(&'static str, &'static str)], expected: Option<u64>) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, HeaderValue::from_static(value));
        }
        assert_eq!(retry_after(&map), expected.map(Duration::from_secs), "{headers:?}");
    }

    #[test]
    fn retry_after_in_seconds_or_by_date() {
        check_wait(&[("retry-after", "7")], Some(7));
        check_wait(&[("retry-after", " 7 ")], Some(7));
        check_wait(&[("retry-after", "-7")], None);
        check_wait(&[("retry-after", "soon")], None);
        let until = ("retry-after", "Wed, 21 Oct 2015 07:28:09 GMT");
        check_wait(&[until], None);
        check_wait(&[until, ("date", "Wed, 21 Oct 2015 07:28:00 GMT")], Some(9));
        check_wait(&[until, ("date", "Wed, 21 Oct 2015 07:29:00 GMT")], Some(0));
    }

    /// Follows a request through answers with this status and to these places, and returns where it went.
    fn check_follow(method: Method, status: u16, locations: &[&'static str], expected: Result<&str, &str>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let home = format!("http://{}", listener.local_addr().unwrap());
        let replace = |text: &str| text.replace("HOME", &home);
        let mut answers: Vec<_> =
            locations.iter().map(|to| format!("{status} -\r\nLocation: {}", replace(to))).collect();
        answers.push("200 OK".to_owned());
        std::thread::spawn(move || {
            for answer in answers {
                let mut stream = listener.accept().unwrap().0;
                let _ = std::io::Read::read(&mut stream, &mut [0; 4096]);
                let text = format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                let _ = std::io::Write::write_all(&mut stream, text.as_bytes());
            }
        });
        let http =
            crate::Http::new(reqwest::ClientBuilder::new().no_proxy(), crate::Patience::default()).unwrap();
        let carry = |hop: &Hop<'_>, request: Request| {
            assert_eq!(hop.is_home, hop.url.as_str().starts_with(&home));
            http.send(&request)
        };
        let request = Request::new(
            method,
            Url::parse(&replace("http://me:secret@HOME/a").replace("@http://", "@")).unwrap(),
        );
        let found = match follow(&request, &carry) {
            Ok(response) => Ok(response.url().to_string()),
            Err(Trouble::Final(reason)) => Err(reason.to_string()),
            Err(trouble) => panic!("{trouble:?}"),
        };
        let expected = expected.map(replace).map_err(replace);
        assert_eq!(found, expected);
    }

    #[test]
    fn what_asks_goes_anywhere_and_what_changes_stays() {
        for status in [301, 302, 303, 307, 308] {
            check_follow(Method::GET, status, &["/b", "HOME/c"], Ok("HOME/c"));
        }
        check_follow(Method::HEAD, 307, &["HOME/b?x=1"], Ok("HOME/b?x=1"));
        check_follow(Method::POST, 307, &["/b"], Ok("HOME/b"));
        check_follow(Method::PUT, 308, &["/b"], Ok("HOME/b"));
        check_follow(Method::POST, 302, &["/b"], Err("redirected to HOME/b, which only reading may be"));
        let elsewhere = "redirected to http://127.0.0.1:1/, which only reading may be";
        check_follow(Method::PUT, 307, &["http://127.0.0.1:1/"], Err(elsewhere));
    }

    fn check_next(location: &'static str, expected: Result<&str, &str>) {
        let headers = HeaderMap::from_iter([(LOCATION, HeaderValue::from_static(location))]);
        let base = Url::parse("https://a.example.org/v2/x").unwrap();
        let found = match next(&base, &headers) {
            Ok(url) => Ok(url.to_string()),
            Err(Trouble::Final(reason)) => Err(reason.to_string()),
            Err(trouble) => panic!("{trouble:?}"),
        };
        assert_eq!(found.as_deref().map_err(String::as_str), expected);
    }

    #[test]
    fn where_redirects_lead() {
        check_next("/v3", Ok("https://a.example.org/v3"));
        check_next("y?z=1", Ok("https://a.example.org/v2/y?z=1"));
        check_next("//b.example.org/", Ok("https://b.example.org/"));
        check_next("http://me:secret@b.example.org/", Ok("http://b.example.org/"));
        check_next("ftp://me:secret@b.example.org/", Err("redirected to ftp://***@b.example.org/"));
        check_next("https://[", Err("redirected to what is no URL: invalid IPv6 address"));
    }
}
