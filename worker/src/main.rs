//! The `worker` command. Everything is in the library.

fn main() -> std::process::ExitCode {
    accord_worker::main()
}
