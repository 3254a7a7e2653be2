//! Extra fields (4.5): the two that change an entry's meaning, Zip64 sizes (4.5.3) and the Unicode path (4.6.9).
//!
//! All others (timestamps, owners, padding) say nothing that a layer takes over, and are skipped when well formed.

use super::fields::Fields;
use super::{Error, ExtraProblem, Header};

const ZIP64: u16 = 0x0001;
const UNICODE_PATH: u16 = 0x7075;

/// The extra fields of one of an entry's headers.
#[derive(Debug)]
pub struct Extra<'a> {
    name: &'a str,
    header: Header,
    zip64: Option<&'a [u8]>,
    unicode_path: Option<&'a [u8]>,
}

impl<'a> Extra<'a> {
    /// Splits `bytes` into fields, which have to fill them. `name` is the entry's, for messages.
    pub fn parse(name: &'a str, header: Header, bytes: &'a [u8]) -> Result<Self, Error> {
        let mut extra = Self { name, header, zip64: None, unicode_path: None };
        let mut fields = Fields(bytes);
        while !fields.is_empty() {
            let available = fields.len();
            let (Some(id), Some(declared)) = (fields.u16(), fields.u16()) else {
                return Err(extra.error(0, ExtraProblem::ShortHeader { available }));
            };
            let (declared, available) = (usize::from(declared), fields.len());
            let value = fields
                .bytes(declared)
                .ok_or_else(|| extra.error(id, ExtraProblem::PastEnd { declared, available }))?;
            let slot = match id {
                ZIP64 => &mut extra.zip64,
                UNICODE_PATH => &mut extra.unicode_path,
                _ => continue,
            };
            if slot.replace(value).is_some() {
                return Err(extra.error(id, ExtraProblem::Repeated));
            }
        }
        extra.check_unicode_path()?;
        Ok(extra)
    }

    /// Whether there is a Zip64 field, which also makes the data descriptor's sizes 64 bits wide (4.3.9.2).
    pub const fn is_zip64(&self) -> bool {
        self.zip64.is_some()
    }

    /// Replaces the header's values that are all ones by the Zip64 field's, which holds these and no others, in the
    /// order of `narrow`.
    ///
    /// Some writers (the one of protobuf's wheels) give a local header the Zip64 field beside sizes that need none. That
    /// is taken when the field holds all values and repeats them.
    pub fn widen<const N: usize>(&self, narrow: [(&'static str, u32); N]) -> Result<[u64; N], Error> {
        let references = narrow.iter().filter(|(_, value)| *value == u32::MAX).count();
        let (found, expected) = (self.zip64.unwrap_or_default().len(), references * 8);
        if self.repeats(narrow) {
            return Ok(narrow.map(|(_, value)| u64::from(value)));
        }
        if self.zip64.is_some() && found != expected {
            return Err(self.error(ZIP64, ExtraProblem::Length { found, expected }));
        }
        let mut fields = Fields(self.zip64.unwrap_or_default());
        let mut wide = [0; N];
        for (wide, (field, value)) in wide.iter_mut().zip(narrow) {
            *wide = if value == u32::MAX {
                fields
                    .u64()
                    .ok_or_else(|| Error::Zip64Missing { owner: format!("{:?}", self.name), field })?
            } else {
                u64::from(value)
            };
        }
        Ok(wide)
    }

    fn repeats<const N: usize>(&self, narrow: [(&'static str, u32); N]) -> bool {
        let mut fields = Fields(self.zip64.unwrap_or_default());
        matches!(self.header, Header::Local)
            && fields.len() == 8 * N
            && narrow.iter().all(|&(_, value)| value != u32::MAX && fields.u64() == Some(u64::from(value)))
    }

    /// Refuses a second name that is another name. Version and checksum are not looked at: readers that ignore the
    /// field where these are wrong, and those that don't, shall see one name.
    fn check_unicode_path(&self) -> Result<(), Error> {
        let Some(value) = self.unicode_path else { return Ok(()) };
        let path = value.get(5..).unwrap_or_default();
        if path != self.name.as_bytes() {
            return Err(Error::SecondName {
                name: self.name.to_owned(),
                other: String::from_utf8_lossy(path).into_owned(),
            });
        }
        Ok(())
    }

    fn error(&self, id: u16, problem: ExtraProblem) -> Error {
        Error::Extra { name: self.name.to_owned(), header: self.header, id, problem }
    }
}
