//! What a shared library or program asks of the system that loads it.
//!
//! Read as the loader reads it, by program headers and the dynamic segment: sections may be stripped or say otherwise.
//! Only the few kilobytes that matter are read, each with a limit, so that neither a library of gigabytes nor one whose
//! numbers are invented costs memory.

use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;

use memchr::memchr;
use object::elf::{self, FileHeader32, FileHeader64, Ident, Vernaux, Verneed};
use object::read::elf::{Dyn as _, FileHeader, ProgramHeader as _};
use object::{Endianness, Pod, pod};

/// The first bytes of every ELF file.
pub(super) const MAGIC: [u8; 4] = elf::ELFMAG;

/// What a file asks of the system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// The processor, as platform tags name it; none for one that they don't know.
    pub(super) machine: Option<&'static str>,
    /// Its own name among libraries (DT_SONAME).
    pub(super) name: Option<String>,
    /// Libraries by name (DT_NEEDED), in their order.
    pub(super) libraries: Vec<String>,
    /// Where these are looked for (DT_RPATH, DT_RUNPATH), in their order.
    pub(super) run_paths: Vec<String>,
    /// Versions of symbols, with the library that has them: `libc.so.6`, `GLIBC_2.34`.
    pub(super) versions: Vec<(String, String)>,
}

/// A dynamic segment has some thirty entries.
const MAX_DYNAMIC: u64 = 64 << 10;
/// Versions that a file needs, of all libraries together; a large one has some fifty.
const MAX_VERSIONS: usize = 4_096;
/// Bytes of a library's or a version's name.
const MAX_NAME: usize = 255;
/// Bytes of a list of folders.
const MAX_PATHS: usize = 4_095;

/// Reads what a file asks of the system; nothing for what no loader loads: object files, core dumps.
///
/// # Errors
/// A sentence that says what is wrong with the file.
pub(super) fn read(file: impl Read + Seek) -> Result<Option<Needs>, String> {
    let mut file = File { file };
    let ident = file.bytes(0, size_of::<Ident>() as u64)?;
    match ident.get(4).map(|class| elf::FileClass(*class)) {
        Some(elf::ELFCLASS32) => file.needs::<FileHeader32<Endianness>>(),
        Some(elf::ELFCLASS64) => file.needs::<FileHeader64<Endianness>>(),
        _ => Err("it is of neither 32 nor 64 bits".to_owned()),
    }
}

struct File<F> {
    file: F,
}

/// A part of the file that is loaded: addresses, and where they are in the file.
struct Segment {
    addresses: Range<u64>,
    offset: u64,
}

impl<F: Read + Seek> File<F> {
    fn needs<H: Header>(&mut self) -> Result<Option<Needs>, String> {
        let header: H = self.value(0)?;
        let endian = header.endian().map_err(|_| "its byte order is none".to_owned())?;
        if !matches!(header.e_type(endian), elf::ET_DYN | elf::ET_EXEC) {
            return Ok(None);
        }
        let mut needs = Needs { machine: machine(&header, endian), ..Needs::default() };
        let (mut segments, mut dynamic) = (Vec::new(), None);
        let (start, size) = (header.e_phoff(endian).into(), size_of::<H::ProgramHeader>() as u64);
        for number in 0..u64::from(header.e_phnum(endian)) {
            let segment: H::ProgramHeader = self.value(place(start, number, size)?)?;
            let offset = segment.p_offset(endian).into();
            let len: u64 = segment.p_filesz(endian).into();
            let address: u64 = segment.p_vaddr(endian).into();
            match segment.p_type(endian) {
                elf::PT_LOAD => {
                    segments.push(Segment { addresses: address..address.saturating_add(len), offset });
                }
                elf::PT_DYNAMIC => dynamic = Some((offset, len)),
                _ => {}
            }
        }
        // A program that is linked statically asks for nothing.
        let Some((offset, len)) = dynamic else { return Ok(Some(needs)) };
        if len > MAX_DYNAMIC {
            return Err(format!("its dynamic segment has {len} bytes; at most {MAX_DYNAMIC} are read"));
        }
        let table = self.table::<H>(offset, len, endian)?;
        self.follow(&table, &segments, endian, &mut needs)?;
        Ok(Some(needs))
    }

    /// The dynamic segment as tags and values, up to its end.
    fn table<H: Header>(
        &mut self,
        offset: u64,
        len: u64,
        endian: Endianness,
    ) -> Result<Vec<(i64, u64)>, String> {
        let mut table = Vec::new();
        let size = size_of::<H::Dyn>() as u64;
        for number in 0..len / size {
            let entry: H::Dyn = self.value(place(offset, number, size)?)?;
            match entry.tag(endian) {
                elf::DT_NULL => break,
                tag => table.push((tag.0, entry.val(endian))),
            }
        }
        Ok(table)
    }

    fn follow(
        &mut self,
        table: &[(i64, u64)],
        segments: &[Segment],
        endian: Endianness,
        needs: &mut Needs,
    ) -> Result<(), String> {
        let value =
            |tag: elf::DynamicTag| table.iter().find(|(found, _)| *found == tag.0).map(|(_, value)| *value);
        let strings = match value(elf::DT_STRTAB) {
            Some(address) => {
                let start = locate(segments, address)?;
                start..start.saturating_add(value(elf::DT_STRSZ).unwrap_or_default())
            }
            None => return Ok(()),
        };
        for &(tag, offset) in table {
            match elf::DynamicTag(tag) {
                elf::DT_NEEDED => needs.libraries.push(self.text(&strings, offset, MAX_NAME)?),
                elf::DT_SONAME => needs.name = Some(self.text(&strings, offset, MAX_NAME)?),
                elf::DT_RPATH | elf::DT_RUNPATH => {
                    let paths = self.text(&strings, offset, MAX_PATHS)?;
                    needs
                        .run_paths
                        .extend(paths.split(':').filter(|path| !path.is_empty()).map(str::to_owned));
                }
                _ => {}
            }
        }
        let Some(address) = value(elf::DT_VERNEED) else { return Ok(()) };
        self.versions(locate(segments, address)?, &strings, endian, &mut needs.versions)
    }

    /// Walks the list of libraries, and for each the list of versions that are needed of it.
    fn versions(
        &mut self,
        start: u64,
        strings: &Range<u64>,
        endian: Endianness,
        versions: &mut Vec<(String, String)>,
    ) -> Result<(), String> {
        let mut at = start;
        // Each library is counted as well, so that a list without end is not walked without end.
        let mut left = MAX_VERSIONS;
        let mut count = || {
            left =
                left.checked_sub(1).ok_or_else(|| format!("it needs more than {MAX_VERSIONS} versions"))?;
            Ok::<(), String>(())
        };
        loop {
            count()?;
            let library: Verneed<Endianness> = self.value(at)?;
            let name = self.text(strings, library.vn_file.get(endian).into(), MAX_NAME)?;
            let mut aux = place(at, 1, library.vn_aux.get(endian).into())?;
            for _ in 0..library.vn_cnt.get(endian) {
                count()?;
                let version: Vernaux<Endianness> = self.value(aux)?;
                let text = self.text(strings, version.vna_name.get(endian).into(), MAX_NAME)?;
                versions.push((name.clone(), text));
                aux = place(aux, 1, version.vna_next.get(endian).into())?;
            }
            match library.vn_next.get(endian) {
                0 => return Ok(()),
                next => at = place(at, 1, next.into())?,
            }
        }
    }

    fn value<T: Pod>(&mut self, offset: u64) -> Result<T, String> {
        let bytes = self.bytes(offset, size_of::<T>() as u64)?;
        pod::from_bytes::<T>(&bytes).map(|(value, _)| *value).map_err(|()| cut_off(offset))
    }

    /// A string of the dynamic string table.
    fn text(&mut self, strings: &Range<u64>, offset: u64, limit: usize) -> Result<String, String> {
        let start = strings.start.saturating_add(offset);
        let len = strings.end.saturating_sub(start).min(limit as u64 + 1);
        let bytes = self.some_bytes(start, len)?;
        let end = memchr(0, &bytes)
            .ok_or_else(|| format!("a name at byte {start} has no end within {len} bytes"))?;
        let text = bytes.get(..end).unwrap_or_default();
        match std::str::from_utf8(text) {
            Ok(text) if !text.contains(char::is_control) => Ok(text.to_owned()),
            _ => Err(format!("a name at byte {start} is no text")),
        }
    }

    fn bytes(&mut self, offset: u64, len: u64) -> Result<Vec<u8>, String> {
        let bytes = self.some_bytes(offset, len)?;
        if bytes.len() as u64 == len { Ok(bytes) } else { Err(cut_off(offset)) }
    }

    /// As many of `len` bytes as there are.
    fn some_bytes(&mut self, offset: u64, len: u64) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let read = self.file.seek(SeekFrom::Start(offset));
        let read = read.and_then(|_| self.file.by_ref().take(len).read_to_end(&mut bytes));
        read.map_err(|error| format!("it can't be read at byte {offset}: {error}"))?;
        Ok(bytes)
    }
}

/// The two widths of the format, as far as they matter here.
trait Header: FileHeader<Endian = Endianness> {}
impl Header for FileHeader32<Endianness> {}
impl Header for FileHeader64<Endianness> {}

fn machine<H: Header>(header: &H, endian: Endianness) -> Option<&'static str> {
    let little = endian == Endianness::Little;
    match (header.e_machine(endian), header.is_class_64()) {
        (elf::EM_X86_64, true) => Some("x86_64"),
        (elf::EM_386, false) => Some("i686"),
        (elf::EM_AARCH64, true) if little => Some("aarch64"),
        (elf::EM_ARM, false) if little => Some("armv7l"),
        (elf::EM_PPC64, true) => Some(if little { "ppc64le" } else { "ppc64" }),
        (elf::EM_S390, true) => Some("s390x"),
        (elf::EM_RISCV, true) => Some("riscv64"),
        (elf::EM_LOONGARCH, true) => Some("loongarch64"),
        _ => None,
    }
}

fn place(start: u64, number: u64, size: u64) -> Result<u64, String> {
    number.checked_mul(size).and_then(|offset| start.checked_add(offset)).ok_or_else(|| cut_off(start))
}

/// Where an address is in the file.
fn locate(segments: &[Segment], address: u64) -> Result<u64, String> {
    segments
        .iter()
        .find(|segment| segment.addresses.contains(&address))
        .and_then(|segment| segment.offset.checked_add(address - segment.addresses.start))
        .ok_or_else(|| format!("the address {address:#x} is in none of its segments"))
}

fn cut_off(offset: u64) -> String {
    format!("it is cut off at byte {offset}")
}

#[cfg(test)]
mod tests;
