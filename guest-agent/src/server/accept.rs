//! Taking what comes to a listener, for ever: one thread per connection, and no more of them than there are places.

use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use super::slots::Slots;
use super::spawn_thread;

/// Between two attempts when accepting fails, as it does when descriptors run out.
pub const PAUSE: Duration = Duration::from_millis(10);

/// Has `carry` serve each connection in a thread called `name`. More than there are places for wait in the backlog.
pub fn each<F>(listener: &TcpListener, name: &str, slots: &Slots, carry: F) -> !
where
    F: Fn(&TcpStream) + Clone + Send + 'static,
{
    loop {
        let slot = slots.take();
        let Ok((client, _)) = listener.accept() else {
            std::thread::sleep(PAUSE);
            continue;
        };
        // A small write must not wait for the acknowledgement of the one before.
        let _ = client.set_nodelay(true);
        let carry = carry.clone();
        // Without a thread the client sees a close; the next one may fare better.
        let _ = spawn_thread(name, move || {
            carry(&client);
            // In this order: a place that is free must not cost a descriptor.
            drop((client, slot));
        });
    }
}
