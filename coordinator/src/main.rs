//! The `coordinator` command. Everything is in the library.

fn main() -> std::process::ExitCode {
    accord_coordinator::cli::main()
}
