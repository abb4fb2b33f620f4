//! Generates the gRPC code. Needs `protoc`, which `.cargo/config.toml` points at.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let descriptors = std::path::PathBuf::from(std::env::var("OUT_DIR")?).join("descriptors.bin");
    tonic_prost_build::configure()
        .file_descriptor_set_path(descriptors)
        .compile_protos(&["job.proto", "worker.proto"], &["."])?;
    Ok(())
}
