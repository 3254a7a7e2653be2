//! A queue between two threads, bounded in messages and in bytes.
//!
//! Most pieces of a layer are small, and some are whole files of many megabytes. A bound on their number alone is
//! either so low that small files make the threads take turns, or so high that large ones fill the memory.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// A queue that holds at most `messages` messages and `bytes` bytes; a message larger than that waits until it is alone.
pub(super) fn queue<T>(messages: usize, bytes: usize) -> (Sender<T>, Receiver<Held<T>>) {
    let (sender, receiver) = sync_channel(messages);
    let room = Arc::new(Room { bytes, free: Mutex::new(bytes), freed: Condvar::new() });
    (Sender { sender, room }, receiver)
}

/// The end that gives.
pub(super) struct Sender<T> {
    sender: SyncSender<Held<T>>,
    room: Arc<Room>,
}

/// The other end is gone.
#[derive(Debug)]
pub(super) struct Gone;

impl<T> Sender<T> {
    /// Waits for room, and sends a message that counts for `len` bytes.
    pub(super) fn send(&self, message: T, len: usize) -> Result<(), Gone> {
        // When the receiver goes away it drops what it holds, which makes room: this can't wait for ever.
        let permit = Room::take(&self.room, len);
        self.sender.send(Held { message, permit }).map_err(|_| Gone)
    }
}

/// A message, and the room that it takes until its permit is dropped.
pub(super) struct Held<T> {
    pub(super) message: T,
    pub(super) permit: Permit,
}

struct Room {
    bytes: usize,
    free: Mutex<usize>,
    freed: Condvar,
}

impl Room {
    fn take(room: &Arc<Self>, len: usize) -> Permit {
        let len = len.min(room.bytes);
        let free = room.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free =
            room.freed.wait_while(free, |free| *free < len).unwrap_or_else(PoisonError::into_inner);
        *free -= len;
        Permit { room: Arc::clone(room), len }
    }
}

/// Room that is given back on drop.
pub(super) struct Permit {
    room: Arc<Room>,
    len: usize,
}

impl Drop for Permit {
    fn drop(&mut self) {
        *self.room.free.lock().unwrap_or_else(PoisonError::into_inner) += self.len;
        self.room.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    /// Sends messages of these lengths to a thread that takes its time; the most bytes that were on the way at once.
    fn check(messages: usize, bytes: usize, lens: &[usize]) -> usize {
        let (waiting, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            let (sender, receiver) = queue(messages, bytes);
            let waiting = &waiting;
            scope.spawn(move || {
                for Held { message, permit } in receiver {
                    thread::yield_now();
                    waiting.fetch_sub(message, Ordering::SeqCst);
                    drop(permit);
                }
            });
            for &len in lens {
                let permit = Room::take(&sender.room, len);
                most.fetch_max(waiting.fetch_add(len, Ordering::SeqCst) + len, Ordering::SeqCst);
                sender.sender.send(Held { message: len, permit }).unwrap();
            }
        });
        assert_eq!(waiting.load(Ordering::SeqCst), 0, "all were taken");
        most.load(Ordering::SeqCst)
    }

    #[test]
    fn bytes_are_bounded() {
        assert!(check(100, 10, &[3; 1000]) <= 9);
        assert!(check(2, 1000, &[1; 1000]) <= 4);
    }

    #[test]
    fn what_is_too_large_goes_alone() {
        assert_eq!(check(100, 10, &[1, 50, 1, 50, 2]), 50);
    }

    #[test]
    fn a_sender_does_not_wait_for_a_receiver_that_is_gone() {
        let (sender, receiver) = queue(100, 10);
        thread::scope(|scope| {
            scope.spawn(move || drop(receiver.into_iter().take(1).collect::<Vec<_>>()));
            assert!((0..10).any(|_| sender.send((), 6).is_err()));
        });
    }
}
