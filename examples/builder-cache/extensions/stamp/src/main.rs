//! Puts the time since its start before each line, or the time of day with `--utc`.

use std::io::{BufRead, Write};

use lexopt::prelude::*;
use time::{format_description::well_known::Rfc3339, Duration, OffsetDateTime};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut utc = false;
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("utc") => utc = true,
            Short('V') | Long("version") => {
                println!("stamp {}", env!("CARGO_PKG_VERSION"));
                return Ok(());
            }
            other => return Err(other.unexpected().into()),
        }
    }
    let began = OffsetDateTime::now_utc();
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let now = OffsetDateTime::now_utc();
        match utc {
            true => write!(out, "{}", now.format(&Rfc3339)?)?,
            false => write!(out, "{:10.3}", (now - began).max(Duration::ZERO).as_seconds_f64())?,
        }
        writeln!(out, "  {}", line?)?;
        out.flush()?;
    }
    Ok(())
}
