//! Debian's control files (deb822): stanzas of `Field: value` lines with folded values.
//!
//! Borrowed and lazy, because an archive's `Packages` file is 50 MB of which a closure looks at a few kilobytes.
//! Field names are compared without case, as dpkg and apt do. Source: `deb822(5)`.

use crate::Error;

/// One stanza: its fields in the file's order, each name once.
#[derive(Debug, Default)]
pub(crate) struct Stanza<'a> {
    /// Line of the first field, counted from 1.
    pub(crate) line: usize,
    fields: Vec<(&'a str, &'a str)>,
}

impl<'a> Stanza<'a> {
    /// A field's value, trimmed; a folded value still has its line breaks and indentation.
    pub(crate) fn get(&self, name: &str) -> Option<&'a str> {
        self.fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }

    /// A field that the file is of no use without.
    pub(crate) fn require(&self, file: &str, name: &'static str) -> Result<&'a str, Error> {
        match self.get(name) {
            Some(value) if !value.is_empty() => Ok(value),
            _ => Err(Error::control(file, self.line, format!("the stanza has no `{name}` field"))),
        }
    }
}

/// The stanzas of a control file, in the file's order. `file` names it in errors.
pub(crate) fn stanzas<'a>(
    file: &'a str,
    text: &'a str,
) -> impl Iterator<Item = Result<Stanza<'a>, Error>> + use<'a> {
    Stanzas { file, text, offset: 0, line: 0, failed: false }
}

struct Stanzas<'a> {
    file: &'a str,
    text: &'a str,
    offset: usize,
    line: usize,
    failed: bool,
}

impl<'a> Stanzas<'a> {
    /// The next line without its end, and the byte range that it has in the text.
    fn next_line(&mut self) -> Option<(&'a str, usize, usize)> {
        let start = self.offset;
        let rest = self.text.get(start..).filter(|rest| !rest.is_empty())?;
        let length = rest.find('\n').unwrap_or(rest.len());
        self.offset = start + length + 1;
        self.line += 1;
        Some((rest.get(..length)?.trim_end(), start, start + length))
    }

    fn read(&mut self) -> Result<Option<Stanza<'a>>, Error> {
        let mut stanza = Stanza { line: 0, fields: Vec::with_capacity(24) };
        // Name, start and end of the value that is being read: a folded value is one span of the text.
        let mut open: Option<(&'a str, usize, usize)> = None;
        while let Some((line, start, end)) = self.next_line() {
            if line.is_empty() {
                if stanza.line == 0 {
                    continue;
                }
                break;
            }
            if line.starts_with('#') {
                continue;
            }
            if line.starts_with([' ', '\t']) {
                match &mut open {
                    Some((_, _, value_end)) => *value_end = end,
                    None => return Err(self.error("a continuation line stands before any field")),
                }
                continue;
            }
            self.close(&mut stanza, open.take())?;
            let Some((name, value)) = line.split_once(':') else {
                return Err(self.error("a line is neither `Field: value` nor a continuation"));
            };
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(self.error("a field name is not printable ASCII"));
            }
            if stanza.line == 0 {
                stanza.line = self.line;
            }
            open = Some((name, start + line.len() - value.len(), end));
        }
        self.close(&mut stanza, open)?;
        Ok((stanza.line != 0).then_some(stanza))
    }

    fn close(&self, stanza: &mut Stanza<'a>, open: Option<(&'a str, usize, usize)>) -> Result<(), Error> {
        let Some((name, start, end)) = open else { return Ok(()) };
        if stanza.get(name).is_some() {
            return Err(self.error(&format!("the stanza has two `{name}` fields")));
        }
        stanza.fields.push((name, self.text.get(start..end).unwrap_or_default().trim()));
        Ok(())
    }

    fn error(&self, reason: &str) -> Error {
        Error::control(self.file, self.line, reason.to_owned())
    }
}

impl<'a> Iterator for Stanzas<'a> {
    type Item = Result<Stanza<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let stanza = self.read().transpose();
        self.failed = matches!(stanza, Some(Err(_)));
        stanza
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `text` read and written as `Name=value` pairs, stanzas divided by `|`.
    fn check(text: &str, expected: Result<&str, &str>) {
        let stanzas: Result<Vec<_>, _> = stanzas("test", text).collect();
        let shown = stanzas.map(|stanzas| {
            let stanza = |stanza: &Stanza<'_>| {
                stanza
                    .fields
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect::<Vec<_>>()
                    .join(" ")
            };
            stanzas.iter().map(stanza).collect::<Vec<_>>().join("|")
        });
        match (shown, expected) {
            (Ok(shown), Ok(expected)) => assert_eq!(shown, expected, "{text:?}"),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (shown, _) => panic!("{text:?} gave {shown:?}"),
        }
    }

    #[test]
    fn reads_stanzas() {
        check("", Ok(""));
        check("\n\n", Ok(""));
        check("A: 1\nB: 2\n", Ok("A=1 B=2"));
        check("A: 1\n\n\nA: 2", Ok("A=1|A=2"));
        check("A:1\r\n\r\nA: 2\r\n", Ok("A=1|A=2"));
        check("A: 1\n 2\n\t3\nB:\n", Ok("A=1\n 2\n\t3 B="));
        check("# remark\nA: 1\n# remark\n 2\n", Ok("A=1\n# remark\n 2"));
        check("A: ü:\n", Ok("A=ü:"));
    }

    #[test]
    fn refuses_what_is_no_control_file() {
        check(" A: 1\n", Err("continuation"));
        check("A\n", Err("test:1"));
        check("A: 1\na: 2\n", Err("two `a` fields"));
        check("A: 1\n\n: 2\n", Err("test:3"));
    }
}
