//! Reading the little-endian fields of a record, one after the other.

use super::Error;

/// The bytes of a record that are still to be read. Every method gives `None` where the bytes end before the field.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }

    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>()?;
        self.0 = tail;
        Some(*head)
    }
}

/// The fields of `record`, read by `read`; where they end too early, an error that says which record it was.
pub fn parse<'a, T>(
    record: &'static str,
    offset: u64,
    bytes: &'a [u8],
    read: impl FnOnce(&mut Fields<'a>) -> Option<T>,
) -> Result<T, Error> {
    read(&mut Fields(bytes)).ok_or(Error::Truncated { record, offset, available: bytes.len() as u64 })
}

/// Compares a record's signature.
pub fn expect_signature(record: &'static str, offset: u64, found: u32, expected: u32) -> Result<(), Error> {
    if found == expected { Ok(()) } else { Err(Error::Signature { record, offset, found, expected }) }
}
