//! Tells the binding which CPython it is built for: `cfg(Py_3_14)` and the like.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    #[cfg(feature = "python")]
    pyo3_build_config::use_pyo3_cfgs();
}
