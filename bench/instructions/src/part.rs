//! Which part of the whole an instruction belongs to: mostly the crate that its source lies in.

use std::path::Path;

use super::callgrind::Place;

/// The part in words.
///
/// An instruction of the standard library that was inlined belongs to the function it is in, since
/// most of them are what an `Option` or an iterator becomes.
pub(crate) fn of(place: &Place) -> String {
    if let Some(concern) = concern(place) {
        return concern.to_owned();
    }
    let name = name(place.file).or_else(|| name(place.function_file));
    name.unwrap_or_else(|| if is_std(place.file) { STD } else { SYSTEM }.to_owned())
}

/// What is of interest by what it does, wherever it is done.
fn concern(place: &Place) -> Option<&'static str> {
    let Place { object, function, function_file, .. } = *place;
    // What Rust calls begins with a module. Symbols of glibc go on in many ways, such as
    // `__memcpy_avx_unaligned_erms`.
    let symbol = function.strip_prefix("__rustc::").unwrap_or(function).trim_start_matches('_');
    let is_one_of = |names: &[&str]| {
        !symbol.contains("::") && names.iter().any(|name| symbol.starts_with(name))
    };
    if is_one_of(&ALLOCATES) || function_file.contains("/malloc/") {
        Some("malloc, free")
    } else if is_one_of(&COPIES) {
        Some("memcpy, memset, memcmp")
    } else if is_one_of(&["clock_gettime"]) || is_clock(function_file) {
        Some("clock")
    } else {
        object.contains(".so").then_some(SYSTEM)
    }
}

fn is_clock(file: &str) -> bool {
    is_std(file) && (file.ends_with("/time.rs") || file.contains("/time/"))
}

/// That of the crate, or of those that belong together.
fn name(file: &str) -> Option<String> {
    if let Ok(inside) = Path::new(file).strip_prefix(root()) {
        let folder = inside.iter().next()?.to_str()?;
        return Some(match folder {
            "bench" => "caller and handler".to_owned(),
            "micro" => "micro".to_owned(),
            folder => format!("micro-{folder}"),
        });
    }
    let (_, inside) = file.split_once("/registry/src/")?;
    // The registry's own folder, then the package with its version.
    let package = inside.split('/').nth(1)?;
    let name = package.rsplit_once('-').map_or(package, |(name, _)| name);
    let group = GROUPS.iter().find(|(_, names)| names.contains(&name));
    Some(group.map_or(name, |(group, _)| group).to_owned())
}

/// The tree that this program was built from.
fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("it lies in bench/instructions")
}

/// It says where it was built, with the crates that it takes from elsewhere, or where the component
/// `rust-src` is.
fn is_std(file: &str) -> bool {
    ["/rustc/", "/rust/deps/"].iter().any(|built| file.starts_with(built))
        || file.contains("/rustlib/src/")
}

const STD: &str = "std";
const SYSTEM: &str = "libc, system calls";

const ALLOCATES: [&str; 9] = [
    "malloc",
    "free",
    "calloc",
    "realloc",
    "posix_memalign",
    "int_",
    "rust_",
    "rdl_",
    "unlink_chunk",
];

const COPIES: [&str; 5] = ["memcpy", "memmove", "memset", "memcmp", "bcmp"];

const GROUPS: [(&str, &[&str]); 4] = [
    ("serde, rmp", &["serde", "serde_core", "serde_bytes", "rmp", "rmp-serde"]),
    ("tokio, mio", &["tokio", "tokio-util", "mio"]),
    ("futures", &["futures", "futures-core", "futures-channel", "futures-util"]),
    ("tower", &["tower", "tower-layer", "tower-service"]),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn part(object: &str, function: &str, function_file: &str, file: &str) -> String {
        of(&Place { object, function, function_file, file })
    }

    /// An instruction belongs to the crate of its source; one of the standard library, where it was
    /// inlined, to that of its function.
    #[test]
    fn tells_crates_by_their_files() {
        let here = |file: &str| root().join(file).display().to_string();
        let tokio = "/home/.cargo/registry/src/index.crates.io-1/tokio-1.54.1/src/task/join.rs";
        let rmp = "/home/.cargo/registry/src/index.crates.io-1/rmp-serde-1.3.1/src/encode.rs";
        let option = "/rustc/5980/library/core/src/option.rs";
        let (engine, micro) = (here("rpc/src/outbox.rs"), here("micro/src/send.rs"));
        let at = |function_file: &str, file: &str| part("program", "a::b", function_file, file);
        assert_eq!(at(tokio, &engine), "micro-rpc");
        assert_eq!(at(&engine, tokio), "tokio, mio");
        assert_eq!(at(&engine, rmp), "serde, rmp");
        assert_eq!(at(&micro, option), "micro");
        assert_eq!(at(&micro, &here("bench/instructions/src/calls.rs")), "caller and handler");
        assert_eq!(at(option, option), STD);
        assert_eq!(at("???", "???"), SYSTEM);
    }

    /// Memory and time are told by the function, whatever libc says of its source.
    #[test]
    fn tells_concerns_by_functions() {
        let libc = |function| part("/lib/libc.so.6", function, "???", "???");
        assert_eq!(libc("_int_free"), "malloc, free");
        assert_eq!(libc("__memcpy_avx_unaligned_erms"), "memcpy, memset, memcmp");
        assert_eq!(libc("clock_gettime@@GLIBC_2.17"), "clock");
        assert_eq!(libc("epoll_wait"), SYSTEM);
        let time = "/rustc/5980/library/std/src/sys/pal/unix/time.rs";
        assert_eq!(part("program", "<std::sys::Timespec>::sub_timespec", time, time), "clock");
        let allocates = "/rustc/5980/library/std/src/alloc.rs";
        assert_eq!(part("program", "__rustc::__rdl_alloc", allocates, allocates), "malloc, free");
    }
}
