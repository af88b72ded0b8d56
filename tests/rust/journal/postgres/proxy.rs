//! A connection to the server that can be cut before and after what is sent has arrived, and that can keep answers.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What is done to something that a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It does not arrive, and the connection is closed.
    CutBefore,
    /// It arrives and is answered, and the connection is closed instead of the answer.
    CutAfter,
    /// It arrives, and neither its answer nor any after it comes back.
    Swallow,
}

/// About what a connection sends before it is used.
const SETTING_UP: usize = 20;

/// A place that leads to the server.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    server: String,
    // Out of 1000 things that are sent, so many meet a fault.
    rate: AtomicUsize,
    chance: Mutex<u64>,
    faults: Mutex<Vec<Fault>>,
    open: Mutex<Vec<TcpStream>>,
    is_over: AtomicBool,
}

impl Proxy {
    /// In front of a server, "HOST:PORT".
    pub fn to(server: &str, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            server: server.to_owned(),
            rate: AtomicUsize::new(0),
            chance: Mutex::new(seed | 1),
            faults: Mutex::default(),
            open: Mutex::default(),
            is_over: AtomicBool::new(false),
        });
        let theirs = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if theirs.is_over.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&theirs);
                thread::spawn(move || shared.serve(client));
            }
        });
        Self { port, shared }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on so many of 1000 things that are sent meet a fault.
    pub fn set_rate(&self, rate: usize) {
        self.shared.rate.store(rate, Ordering::Relaxed);
    }

    /// Closes every connection that is open.
    pub fn cut(&self) {
        for stream in self.shared.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// The faults that there were.
    pub fn faults(&self) -> Vec<Fault> {
        self.shared.faults.lock().unwrap().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.cut();
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    fn serve(&self, mut client: TcpStream) {
        let Ok(mut server) = TcpStream::connect(&self.server) else { return };
        let (Ok(to_client), Ok(from_server)) = (client.try_clone(), server.try_clone()) else { return };
        self.open.lock().unwrap().extend([&client, &server].map(|stream| stream.try_clone().unwrap()));
        let keeps = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&keeps);
        let back = thread::spawn(move || answer(from_server, to_client, &theirs));
        let mut bytes = vec![0; 1 << 20];
        let mut sent = 0;
        while let Ok(count @ 1..) = client.read(&mut bytes) {
            sent += 1;
            // Otherwise hardly a connection would live to be used.
            let fault = if sent > SETTING_UP { self.fault() } else { self.fault_at_once() };
            if fault == Some(Fault::CutBefore) {
                break;
            }
            if fault.is_some() {
                keeps.store(true, Ordering::Release);
            }
            if server.write_all(&bytes[..count]).is_err() {
                break;
            }
            if fault == Some(Fault::CutAfter) {
                // It is carried out meanwhile, or is still on its way: both happen.
                thread::sleep(Duration::from_millis(count as u64 % 15));
                break;
            }
        }
        for stream in [&client, &server] {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let _ = back.join();
    }

    // A server that is away is away from the beginning.
    fn fault_at_once(&self) -> Option<Fault> {
        (self.rate.load(Ordering::Relaxed) >= 1000).then(|| self.fault()).flatten()
    }

    fn fault(&self) -> Option<Fault> {
        let mut chance = self.chance.lock().unwrap();
        *chance ^= *chance << 13;
        *chance ^= *chance >> 7;
        *chance ^= *chance << 17;
        let drawn = *chance >> 11;
        if drawn as usize % 1000 >= self.rate.load(Ordering::Relaxed) {
            return None;
        }
        let fault = [Fault::CutBefore, Fault::CutAfter, Fault::CutAfter, Fault::Swallow][drawn as usize / 1000 % 4];
        self.faults.lock().unwrap().push(fault);
        Some(fault)
    }
}

fn answer(mut from: TcpStream, mut to: TcpStream, keeps: &AtomicBool) {
    let mut bytes = vec![0; 1 << 20];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        if !keeps.load(Ordering::Acquire) && to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    if !keeps.load(Ordering::Acquire) {
        let _ = to.shutdown(Shutdown::Both);
    }
}
