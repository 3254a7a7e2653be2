//! A call that takes its time: the work on a thread of its own, its progress and the signals on the caller's.
//!
//! Callbacks run on the thread that called, between two looks for signals, so that they see no other thread and may do
//! whatever Python does. A signal whose handler raises, as Ctrl-C does, or a callback that raises, ends the work: it is
//! asked to stop, waited for, and what was raised goes on its way. What the work has left is what it leaves when it is
//! killed: a store that the next run uses, and outputs that are either the old or the new ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use imgforge::Error;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::error::raise;
use crate::progress::Progress;

/// How often it is looked for signals.
const TICK: Duration = Duration::from_millis(50);

/// Events that may wait for the callback. More make the work wait.
const WAITING: usize = 1024;

/// Takes what happens to the callback, if there is one.
pub(crate) struct Teller(Option<SyncSender<Progress>>);

impl Teller {
    /// Tells of an event, which is only put together when somebody listens.
    pub(crate) fn tell(&self, event: impl FnOnce() -> Option<Progress>) {
        if let Some(sender) = &self.0
            && let Some(event) = event()
        {
            // It fails when nobody listens any more, and then nothing is lost.
            let _ = sender.send(event);
        }
    }
}

/// Does some work without the interpreter's lock, on so many threads (all cores: `None`).
pub(crate) fn run<T: Send>(
    py: Python<'_>,
    callback: Option<Py<PyAny>>,
    jobs: Option<usize>,
    work: impl FnOnce(&Teller, &Arc<AtomicBool>) -> Result<T, Error> + Send,
) -> PyResult<T> {
    // Threads of this call: a pool for the whole process would not live through a fork.
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(jobs.unwrap_or(0))
        .build()
        .map_err(|error| PyRuntimeError::new_err(format!("no threads can be had: {error}")))?;
    let stop = Arc::new(AtomicBool::new(false));
    let (sender, receiver) = sync_channel(WAITING);
    let teller = Teller(callback.is_some().then(|| sender.clone()));
    let (result, raised) = py.detach(move || {
        std::thread::scope(|scope| {
            let for_work = &stop;
            let worker = scope.spawn(move || {
                // Dropped with the teller at the end, which is how the other side learns of it.
                let _sender = sender;
                let teller = teller;
                pool.install(|| work(&teller, for_work))
            });
            let raised = attend(&receiver, callback.as_ref(), &stop);
            (worker.join(), raised)
        })
    });
    let result = result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    match raised {
        Some(raised) => Err(raised),
        None => result.map_err(|error| raise(py, &error)),
    }
}

/// Does some work that can't be asked to end, and that leaves nothing but a cache: what is raised meanwhile does not wait
/// for it.
pub(crate) fn ask<T: Send + 'static>(
    py: Python<'_>,
    work: impl FnOnce() -> T + Send + 'static,
) -> PyResult<T> {
    let (sender, receiver) = sync_channel(1);
    let worker = std::thread::spawn(move || {
        // It fails when nobody waits any more.
        let _ = sender.send(work());
    });
    py.detach(move || {
        loop {
            match receiver.recv_timeout(TICK) {
                Ok(result) => return Ok(result),
                Err(RecvTimeoutError::Timeout) => Python::attach(|py| py.check_signals())?,
                Err(RecvTimeoutError::Disconnected) => match worker.join() {
                    Err(panic) => std::panic::resume_unwind(panic),
                    Ok(()) => return Err(PyRuntimeError::new_err("the work ended without a result")),
                },
            }
        }
    })
}

/// Hands events to the callback until the work has ended, and asks it to end when something is raised.
fn attend(receiver: &Receiver<Progress>, callback: Option<&Py<PyAny>>, stop: &AtomicBool) -> Option<PyErr> {
    let mut raised = None;
    loop {
        let event = match receiver.recv_timeout(TICK) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            // The same Ctrl-C may have ended a process that the work was waiting for: that is told, and not what came of it.
            Err(RecvTimeoutError::Disconnected) => {
                return raised.or_else(|| Python::attach(|py| py.check_signals()).err());
            }
        };
        let outcome = Python::attach(|py| {
            if let (Some(event), Some(callback), None) = (event, callback, &raised) {
                callback.call1(py, (event,))?;
            }
            py.check_signals()
        });
        if let Err(error) = outcome {
            stop.store(true, Ordering::Relaxed);
            // What comes after the first changes nothing: it is being ended already.
            raised.get_or_insert(error);
        }
    }
}
