//! Exported tables as Parquet, through the crate's low-level writer: no Arrow, no compression.

use accord_data::Embeddings;
use accord_data::ranking::Scored;
use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, FloatType, Int32Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{Type, TypePtr};
use std::io::Write;
use std::sync::Arc;

/// Rows of a row group: readers load one at a time.
const GROUP: usize = 1 << 16;

/// `id` string, `embedding` list of float: one row a user or item.
pub(super) fn embeddings<W: Write + Send>(file: W, ids: &[String], matrix: &Embeddings) -> anyhow::Result<()> {
    let mut file = open(file, vec![text("id")?, float_list("embedding")?])?;
    for (ids, values) in ids.chunks(GROUP).zip(matrix.values.chunks(GROUP * matrix.width)) {
        let mut group = file.next_row_group()?;
        column(&mut group, |c| Ok(c.typed::<ByteArrayType>().write_batch(&texts(ids.iter()), None, None)?))?;
        column(&mut group, |c| {
            // repetition 0 starts a list, 1 goes on with it; every element is there (definition 1)
            let repetition: Vec<i16> = (0..values.len()).map(|n| i16::from(n % matrix.width != 0)).collect();
            let definition = vec![1i16; values.len()];
            Ok(c.typed::<FloatType>().write_batch(values, Some(&definition), Some(&repetition))?)
        })?;
        group.close()?;
    }
    file.close()?;
    Ok(())
}

/// `user` string, `rank` int counted from 1, `item` string, `score` float.
pub(super) fn top_k<W: Write + Send>(
    file: W,
    user_ids: &[String],
    item_ids: &[String],
    ranked: &[Vec<Scored>],
) -> anyhow::Result<()> {
    let int = Type::primitive_type_builder("rank", Physical::INT32).with_repetition(Repetition::REQUIRED).build()?;
    let score = Type::primitive_type_builder("score", Physical::FLOAT).with_repetition(Repetition::REQUIRED).build()?;
    let mut file = open(file, vec![text("user")?, Arc::new(int), text("item")?, Arc::new(score)])?;
    let rows: Vec<(usize, usize, Scored)> = ranked
        .iter()
        .enumerate()
        .flat_map(|(user, list)| list.iter().enumerate().map(move |(n, &scored)| (user, n + 1, scored)))
        .collect();
    for rows in rows.chunks(GROUP) {
        let users = texts(rows.iter().map(|&(user, _, _)| &user_ids[user]));
        let ranks: Vec<i32> = rows.iter().map(|&(_, rank, _)| rank as i32).collect();
        let items = texts(rows.iter().map(|&(_, _, scored)| &item_ids[scored.item as usize]));
        let scores: Vec<f32> = rows.iter().map(|&(_, _, scored)| scored.score).collect();
        let mut group = file.next_row_group()?;
        column(&mut group, |c| Ok(c.typed::<ByteArrayType>().write_batch(&users, None, None)?))?;
        column(&mut group, |c| Ok(c.typed::<Int32Type>().write_batch(&ranks, None, None)?))?;
        column(&mut group, |c| Ok(c.typed::<ByteArrayType>().write_batch(&items, None, None)?))?;
        column(&mut group, |c| Ok(c.typed::<FloatType>().write_batch(&scores, None, None)?))?;
        group.close()?;
    }
    file.close()?;
    Ok(())
}

fn open<W: Write + Send>(file: W, columns: Vec<TypePtr>) -> anyhow::Result<SerializedFileWriter<W>> {
    let schema = Type::group_type_builder("schema").with_fields(columns).build()?;
    let properties = WriterProperties::builder().set_compression(Compression::UNCOMPRESSED).build();
    Ok(SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties))?)
}

/// The next column of a row group.
fn column<W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    fill: impl FnOnce(&mut SerializedColumnWriter<'_>) -> anyhow::Result<usize>,
) -> anyhow::Result<()> {
    let Some(mut column) = group.next_column()? else {
        anyhow::bail!("the table has fewer columns than were written");
    };
    fill(&mut column)?;
    column.close()?;
    Ok(())
}

fn text(name: &str) -> anyhow::Result<TypePtr> {
    let column = Type::primitive_type_builder(name, Physical::BYTE_ARRAY)
        .with_repetition(Repetition::REQUIRED)
        .with_logical_type(Some(LogicalType::String))
        .build()?;
    Ok(Arc::new(column))
}

/// `required group name (LIST) { repeated group list { required float element } }`.
fn float_list(name: &str) -> anyhow::Result<TypePtr> {
    let element =
        Type::primitive_type_builder("element", Physical::FLOAT).with_repetition(Repetition::REQUIRED).build()?;
    let list = Type::group_type_builder("list")
        .with_repetition(Repetition::REPEATED)
        .with_fields(vec![Arc::new(element)])
        .build()?;
    let column = Type::group_type_builder(name)
        .with_repetition(Repetition::REQUIRED)
        .with_logical_type(Some(LogicalType::List))
        .with_fields(vec![Arc::new(list)])
        .build()?;
    Ok(Arc::new(column))
}

fn texts<'a>(values: impl Iterator<Item = &'a String>) -> Vec<ByteArray> {
    values.map(|v| ByteArray::from(v.as_str())).collect()
}
