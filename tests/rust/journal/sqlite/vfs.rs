//! An SQLite VFS that passes everything on to the default one, and tells a [`Disk`] of it.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rusqlite::ffi::{self, sqlite3_file, sqlite3_int64, sqlite3_io_methods, sqlite3_vfs};

use super::disk::{Disk, Op};

/// A file of ours; the real one lies behind it in the same allocation, which SQLite makes.
#[repr(C)]
struct Shim {
    base: sqlite3_file,
    disk: *const Disk,
    name: *mut String,
    real: *mut sqlite3_file,
}

/// Registers a VFS for this disk, for the rest of the process; gives its name.
pub fn register(disk: &Arc<Disk>) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("disk-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let c_name = CString::new(name.as_str()).unwrap();
    // SAFETY: the default VFS lives as long as the process. What the copy refers to is leaked, so it does too.
    unsafe {
        let real = ffi::sqlite3_vfs_find(ptr::null());
        let mut copy: sqlite3_vfs = ptr::read(real);
        copy.zName = c_name.into_raw();
        copy.pNext = ptr::null_mut();
        copy.szOsFile = (*real).szOsFile + size_of::<Shim>() as c_int;
        copy.pAppData = Box::into_raw(Box::new((Arc::into_raw(Arc::clone(disk)), real))).cast();
        copy.xOpen = Some(open);
        copy.xDelete = Some(delete);
        assert_eq!(ffi::sqlite3_vfs_register(Box::into_raw(Box::new(copy)), 0), ffi::SQLITE_OK);
    }
    name
}

static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    // Without xFetch: nothing is mapped, so every access is seen.
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

type App = (*const Disk, *mut sqlite3_vfs);

/// Calls a method of the real file.
macro_rules! real {
    ($file:expr, $method:ident $(, $argument:expr)*) => {{
        // SAFETY: SQLite passes a file that `open` has set up, and the real file has all methods of version 2.
        unsafe {
            let real = (*$file.cast::<Shim>()).real;
            (*(*real).pMethods).$method.unwrap()(real $(, $argument)*)
        }
    }};
}

unsafe extern "C" fn open(
    vfs: *mut sqlite3_vfs,
    path: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: `register` made the application data; the allocation holds a `Shim` and the real file behind it.
    unsafe {
        let (disk, real_vfs) = *(*vfs).pAppData.cast::<App>();
        let shim = file.cast::<Shim>();
        (*shim).base.pMethods = ptr::null();
        if let Some(code) = (*disk).fault(ffi::SQLITE_CANTOPEN) {
            return code;
        }
        let real = shim.add(1).cast::<sqlite3_file>();
        let code = (*real_vfs).xOpen.unwrap()(real_vfs, path, real, flags, out);
        if code == ffi::SQLITE_OK {
            let name = if path.is_null() { String::from("temporary") } else { file_name(path) };
            (*shim).disk = disk;
            (*shim).name = Box::into_raw(Box::new(name));
            (*shim).real = real;
            (*shim).base.pMethods = &METHODS;
        }
        code
    }
}

fn file_name(path: *const c_char) -> String {
    // SAFETY: SQLite passes paths that end with a zero.
    let path = unsafe { CStr::from_ptr(path) }.to_str().unwrap();
    path.rsplit('/').next().unwrap().to_owned()
}

fn of(file: *mut sqlite3_file) -> (&'static Disk, String) {
    // SAFETY: SQLite passes a file that `open` has set up; its disk is leaked.
    unsafe { (&*(*file.cast::<Shim>()).disk, (*(*file.cast::<Shim>()).name).clone()) }
}

unsafe extern "C" fn delete(vfs: *mut sqlite3_vfs, path: *const c_char, sync_directory: c_int) -> c_int {
    // SAFETY: `register` made the application data.
    let (disk, real_vfs) = unsafe { *(*vfs).pAppData.cast::<App>() };
    // SAFETY: both live as long as the process.
    let (disk, call) = unsafe { (&*disk, (*real_vfs).xDelete.unwrap()) };
    if let Some(code) = disk.fault(ffi::SQLITE_IOERR_DELETE) {
        return code;
    }
    disk.did(Op::Delete { file: file_name(path) });
    // SAFETY: the arguments are passed on as they came.
    unsafe { call(real_vfs, path, sync_directory) }
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    let code = real!(file, xClose);
    // SAFETY: `open` made the name, and SQLite closes a file once.
    drop(unsafe { Box::from_raw((*file.cast::<Shim>()).name) });
    code
}

unsafe extern "C" fn read(file: *mut sqlite3_file, to: *mut c_void, count: c_int, at: sqlite3_int64) -> c_int {
    match of(file).0.fault(ffi::SQLITE_IOERR_READ) {
        Some(code) => code,
        None => real!(file, xRead, to, count, at),
    }
}

unsafe extern "C" fn write(file: *mut sqlite3_file, from: *const c_void, count: c_int, at: sqlite3_int64) -> c_int {
    let (disk, name) = of(file);
    if let Some(code) = disk.fault(ffi::SQLITE_IOERR_WRITE) {
        return code;
    }
    // SAFETY: SQLite passes as many bytes as it says.
    let bytes = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), count as usize) }.to_vec();
    disk.did(Op::Write { file: name, at: at as usize, bytes });
    real!(file, xWrite, from, count, at)
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, size: sqlite3_int64) -> c_int {
    let (disk, name) = of(file);
    if let Some(code) = disk.fault(ffi::SQLITE_IOERR_TRUNCATE) {
        return code;
    }
    disk.did(Op::Truncate { file: name, size: size as usize });
    real!(file, xTruncate, size)
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, _flags: c_int) -> c_int {
    let (disk, name) = of(file);
    if let Some(code) = disk.fault(ffi::SQLITE_IOERR_FSYNC) {
        return code;
    }
    // The real file is not synced: what a crash leaves is made up from what was told.
    disk.did(Op::Sync { file: name });
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_size(file: *mut sqlite3_file, size: *mut sqlite3_int64) -> c_int {
    real!(file, xFileSize, size)
}

unsafe extern "C" fn lock(file: *mut sqlite3_file, level: c_int) -> c_int {
    real!(file, xLock, level)
}

unsafe extern "C" fn unlock(file: *mut sqlite3_file, level: c_int) -> c_int {
    real!(file, xUnlock, level)
}

unsafe extern "C" fn check_reserved_lock(file: *mut sqlite3_file, out: *mut c_int) -> c_int {
    real!(file, xCheckReservedLock, out)
}

unsafe extern "C" fn file_control(file: *mut sqlite3_file, op: c_int, argument: *mut c_void) -> c_int {
    real!(file, xFileControl, op, argument)
}

unsafe extern "C" fn sector_size(file: *mut sqlite3_file) -> c_int {
    real!(file, xSectorSize)
}

unsafe extern "C" fn characteristics(file: *mut sqlite3_file) -> c_int {
    real!(file, xDeviceCharacteristics)
}

unsafe extern "C" fn shm_map(
    file: *mut sqlite3_file,
    page: c_int,
    size: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    real!(file, xShmMap, page, size, extend, out)
}

unsafe extern "C" fn shm_lock(file: *mut sqlite3_file, offset: c_int, count: c_int, flags: c_int) -> c_int {
    real!(file, xShmLock, offset, count, flags)
}

unsafe extern "C" fn shm_barrier(file: *mut sqlite3_file) {
    real!(file, xShmBarrier)
}

unsafe extern "C" fn shm_unmap(file: *mut sqlite3_file, remove: c_int) -> c_int {
    real!(file, xShmUnmap, remove)
}
