//! Link options of the library.

fn main() {
    // OpenSSL calls back into this library when a connection ends, even after the Lua VM that
    // loaded it is gone (lua_code_cache off, reload): it must never be unmapped.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo:rerun-if-changed=build.rs");
}
