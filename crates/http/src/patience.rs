use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use imgforge_store::StoreError;

use crate::Reason;

/// When to try again and when to give up.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Further attempts after a failure that may pass. A transfer that makes headway between two failures is not
    /// counted against.
    pub retries: u32,
    /// The wait before the first further attempt; it doubles with each, and varies by half.
    pub first_wait: Duration,
    /// The longest wait, whatever the server asks for.
    pub longest_wait: Duration,
    /// How long a connection may take to come about.
    pub connect: Duration,
    /// How long a server may be silent.
    pub silence: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            retries: 4,
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(60),
            connect: Duration::from_secs(15),
            silence: Duration::from_secs(30),
        }
    }
}

/// Why an attempt ended.
#[derive(Debug)]
pub enum Trouble {
    /// It may go better next time, after what the server asked for.
    Passing {
        /// Why it failed.
        reason: Reason,
        /// How long to wait, where that is known better than by doubling.
        wait: Option<Duration>,
    },
    /// It will not.
    Final(Reason),
    /// It has nothing to do with the network.
    Halt(Halt),
}

/// What ends a transfer beside the network.
#[derive(Debug)]
pub enum Halt {
    /// The bytes could not be put down.
    Store(StoreError),
    /// Somebody else's failure ended it.
    Stopped,
}

impl Trouble {
    /// What may go better next time.
    pub fn passing(reason: Reason) -> Self {
        Self::Passing { reason, wait: None }
    }
}

impl From<StoreError> for Halt {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Halt> for Trouble {
    fn from(halt: Halt) -> Self {
        Self::Halt(halt)
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Halt(Halt::Store(error))
    }
}

/// How much patience is left.
#[derive(Debug)]
pub struct Retries {
    patience: Patience,
    count: u32,
}

impl Retries {
    /// All of it.
    pub fn new(patience: Patience) -> Self {
        Self { patience, count: 0 }
    }

    /// Something went forward: all of it again.
    pub fn renew(&mut self) {
        self.count = 0;
    }

    /// How long to wait before the next attempt, and why the last one failed.
    ///
    /// # Errors
    /// The trouble, when it was one too many or will not pass.
    pub fn after(&mut self, trouble: Trouble) -> Result<(Duration, Reason), Trouble> {
        let Trouble::Passing { reason, wait } = trouble else { return Err(trouble) };
        if self.count >= self.patience.retries {
            return Err(Trouble::Passing { reason, wait });
        }
        let Patience { first_wait, longest_wait, .. } = self.patience;
        let doubled = first_wait.saturating_mul(2_u32.saturating_pow(self.count)).as_secs_f64();
        self.count += 1;
        let varied = || Duration::try_from_secs_f64(doubled * (0.5 + random())).unwrap_or(longest_wait);
        let wait = wait.unwrap_or_else(varied).min(longest_wait);
        Ok((wait, reason))
    }
}

/// Tries until it works or will not.
///
/// # Errors
/// The last attempt's trouble; [`Halt::Stopped`] when somebody sets `stop` meanwhile.
pub fn persist<T>(
    patience: Patience,
    stop: &AtomicBool,
    on_retry: &dyn Fn(Duration, &Reason),
    mut attempt: impl FnMut() -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    let mut retries = Retries::new(patience);
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(Halt::Stopped.into());
        }
        let trouble = match attempt() {
            Ok(value) => return Ok(value),
            Err(trouble) => trouble,
        };
        let (wait, reason) = retries.after(trouble)?;
        on_retry(wait, &reason);
        sleep(stop, wait)?;
    }
}

/// Sleeps in short naps, so that somebody else's failure does not wait for this one's patience.
///
/// # Errors
/// [`Halt::Stopped`] when somebody sets `stop` meanwhile.
pub fn sleep(stop: &AtomicBool, wait: Duration) -> Result<(), Halt> {
    let nap = Duration::from_millis(100);
    let mut rest = wait;
    while !rest.is_zero() {
        if stop.load(Ordering::Relaxed) {
            return Err(Halt::Stopped);
        }
        std::thread::sleep(rest.min(nap));
        rest = rest.saturating_sub(nap);
    }
    Ok(())
}

/// A number in `0..1`, other in each process and at each call: enough to keep clients from coming back all at once.
fn random() -> f64 {
    let bits = RandomState::new().hash_one(0_u8);
    f64::from(u32::try_from(bits >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy(wait: Option<u64>) -> Trouble {
        Trouble::Passing {
            reason: Reason::Connection("busy".to_owned()),
            wait: wait.map(Duration::from_secs),
        }
    }

    #[test]
    fn waits_double_and_are_bounded() {
        let mut retries = Retries::new(Patience::default());
        for expected in [500, 1000, 2000, 4000] {
            let (wait, _) = retries.after(busy(None)).unwrap();
            let expected = Duration::from_millis(expected);
            assert!(wait >= expected / 2 && wait <= expected * 3 / 2, "{wait:?}");
        }
        assert!(retries.after(busy(None)).is_err());
        retries.renew();
        assert_eq!(retries.after(busy(Some(7))).unwrap().0, Duration::from_secs(7));
        assert_eq!(retries.after(busy(Some(70_000))).unwrap().0, Duration::from_secs(60));
        let endless = Patience { first_wait: Duration::MAX, ..Patience::default() };
        assert_eq!(Retries::new(endless).after(busy(None)).unwrap().0, Duration::from_secs(60));
    }

    #[test]
    fn what_will_not_pass_is_not_tried_again() {
        let patience = Patience { first_wait: Duration::ZERO, ..Patience::default() };
        let go = AtomicBool::new(false);
        let mut count = 0;
        let result = persist(patience, &go, &|_, _| {}, || {
            count += 1;
            match count {
                1 | 2 => Err(busy(None)),
                _ => Err::<(), _>(Trouble::Final(Reason::Spliced)),
            }
        });
        assert!(matches!(result, Err(Trouble::Final(Reason::Spliced))));
        assert_eq!(count, 3);
        let stopped = persist(patience, &AtomicBool::new(true), &|_, _| {}, || Ok(()));
        assert!(matches!(stopped, Err(Trouble::Halt(Halt::Stopped))));
    }
}
