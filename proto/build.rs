//! Generates the gRPC code. Needs `protoc`, which `.cargo/config.toml` points at.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tonic_prost_build::configure().compile_protos(&["job.proto", "worker.proto"], &["."])?;
    Ok(())
}
