// A Parquet file read through Arrow, a batch of rows at a time.
#include "../CParquet/cparquet.h"
#include "json_values.h"

#include <arrow/io/file.h>
#include <arrow/memory_pool.h>
#include <arrow/record_batch.h>
#include <arrow/util/utf8.h>
#include <parquet/arrow/reader.h>
#include <parquet/arrow/schema.h>
#include <parquet/file_reader.h>
#include <parquet/statistics.h>

#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

using namespace peftparquet;

namespace {

thread_local std::string lastError;

// Rows that Arrow decodes at a time.
constexpr int64_t rowsPerBatch = 512;

struct Column {
  enum class Use {
    value,
    presence,       // `true`, or null where it is null
    knownPresence,  // always `true`: not read
  };
  std::string name;
  std::string key;  // the name in quotes, with the colon
  Use use;
  int index = -1;  // among the columns of a batch
};

struct UnreadableColumn {
  std::string name;
  Refusal reason;
};

}  // namespace

struct CParquetFile {
  std::unique_ptr<parquet::arrow::FileReader> reader;
  std::vector<int> leaves;  // that are read
  int nextGroup = 0;
  std::unique_ptr<arrow::RecordBatchReader> batches;  // of one group of rows
  std::vector<Column> columns;
  std::vector<UnreadableColumn> unreadable;
  int64_t maxRows = 0;
  int64_t numRows = 0;
  int64_t numRead = 0;
  // What is not given yet of the last batch.
  std::shared_ptr<arrow::RecordBatch> batch;
  int64_t position = 0;
  // What was given last.
  std::string text;
  std::vector<int64_t> ends;
};

namespace {

void check(const arrow::Status &status) {
  if (!status.ok()) throw std::runtime_error(status.message());
}

template <typename T>
T take(arrow::Result<T> result) {
  check(result.status());
  return std::move(result).ValueUnsafe();
}

// Runs a function, and keeps the reason if it fails.
template <typename Result, typename Function>
Result guarded(Result failed, Function function) {
  try {
    return function();
  } catch (const std::exception &error) {
    lastError = error.what();
  } catch (...) {
    lastError = "unknown failure";
  }
  return failed;
}

void addLeaves(const parquet::arrow::SchemaField &field, std::vector<int> &leaves) {
  if (field.is_leaf()) leaves.push_back(field.column_index);
  for (const auto &child : field.children) addLeaves(child, leaves);
}

// Whether the file says that a column is never null: one of its leaves never is. Leaves of lists are not asked, since writers do not
// agree on whether an empty list counts as null.
bool isNeverNull(
    const parquet::FileMetaData &metadata, const parquet::arrow::SchemaField &field, const std::vector<int> &leaves) {
  if (!field.field->nullable()) return true;
  for (const int leaf : leaves) {
    bool isKnown = metadata.schema()->Column(leaf)->max_repetition_level() == 0;
    for (int group = 0; isKnown && group < metadata.num_row_groups(); group++) {
      const auto statistics = metadata.RowGroup(group)->ColumnChunk(leaf)->statistics();
      isKnown = statistics && statistics->HasNullCount() && statistics->null_count() == 0;
    }
    if (isKnown) return true;
  }
  return false;
}

// Decides what is read of each column.
void choose(CParquetFile &file, const std::set<std::string> &wanted) {
  const auto metadata = file.reader->parquet_reader()->metadata();
  std::set<std::string> names;
  int numRead = 0;
  for (const auto &field : file.reader->manifest().schema_fields) {
    Column column{.name = field.field->name(), .key = "", .use = Column::Use::value};
    if (!arrow::util::ValidateUTF8(column.name)) throw std::runtime_error("a column's name is not UTF-8");
    if (!names.insert(column.name).second) throw std::runtime_error("two columns are named \"" + column.name + "\"");
    appendText(column.key, column.name);
    column.key += ':';
    std::vector<int> leaves;
    addLeaves(field, leaves);
    const bool isWanted = wanted.contains(column.name);
    const auto reason = isWanted ? refusal(*field.field->type(), column.name) : std::nullopt;
    if (reason) file.unreadable.push_back({column.name, *reason});
    if (!isWanted || reason) {
      column.use = isNeverNull(*metadata, field, leaves) ? Column::Use::knownPresence : Column::Use::presence;
    }
    if (column.use != Column::Use::knownPresence) {
      column.index = numRead++;
      file.leaves.insert(file.leaves.end(), leaves.begin(), leaves.end());
    }
    file.columns.push_back(std::move(column));
  }
  file.numRows = metadata->num_rows();
}

std::unique_ptr<CParquetFile> open(const char *path, std::set<std::string> wanted, int64_t maxRows) {
  arrow::util::InitializeUTF8();
  // The allocator of the process, not one of Arrow's own; no threads; pages are mapped and decoded one at a time.
  const auto pool = arrow::system_memory_pool();
  parquet::ReaderProperties properties(pool);
  properties.set_page_checksum_verification(true);
  parquet::ArrowReaderProperties arrowProperties(/*use_threads=*/false);
  arrowProperties.set_pre_buffer(false);
  arrowProperties.set_batch_size(rowsPerBatch);
  auto file = std::make_unique<CParquetFile>();
  parquet::arrow::FileReaderBuilder builder;
  check(builder.Open(take(arrow::io::MemoryMappedFile::Open(path, arrow::io::FileMode::READ)), properties));
  file->reader = take(builder.memory_pool(pool)->properties(arrowProperties)->Build());
  file->maxRows = maxRows;
  choose(*file, wanted);
  return file;
}

void appendRow(CParquetFile &file, int64_t row) {
  char separator = '{';
  for (const auto &column : file.columns) {
    file.text += separator;
    separator = ',';
    file.text += column.key;
    if (column.use == Column::Use::knownPresence) {
      file.text += "true";
      continue;
    }
    const auto &array = *file.batch->column(column.index);
    if (column.use == Column::Use::presence) {
      file.text += array.IsNull(row) ? "null" : "true";
      continue;
    }
    try {
      appendValue(file.text, array, row);
    } catch (const InvalidText &) {
      lastError = column.name + ": expected UTF-8, found other bytes";
      throw;
    }
  }
  file.text += file.columns.empty() ? "{}" : "}";
}

// Goes on to the next batch with rows, unless there are rows left; false at the end. A batch does not go beyond a group of rows: Arrow
// does not join the dictionaries of several within structs and lists.
bool advance(CParquetFile &file) {
  const int numGroups = file.reader->num_row_groups();
  while (!file.batch || file.position == file.batch->num_rows()) {
    file.batch.reset();
    file.position = 0;
    if (file.batches) check(file.batches->ReadNext(&file.batch));
    if (file.batch) continue;
    if (file.nextGroup == numGroups) return false;
    file.batches = take(file.reader->GetRecordBatchReader({file.nextGroup}, file.leaves));
    file.nextGroup++;
  }
  return true;
}

// Makes the next rows. A row that cannot be read is an error of its own call: those before it are given first.
int32_t next(CParquetFile &file) {
  file.text.clear();
  file.ends.clear();
  while (static_cast<int64_t>(file.ends.size()) < file.maxRows && advance(file)) {
    const auto size = file.text.size();
    try {
      appendRow(file, file.position);
    } catch (const InvalidText &) {
      file.text.resize(size);
      return file.ends.empty() ? 2 : 0;
    }
    file.position++;
    file.numRead++;
    file.ends.push_back(static_cast<int64_t>(file.text.size()));
  }
  if (file.ends.empty() && file.numRead != file.numRows) {
    throw std::runtime_error(
        "the file says that it has " + std::to_string(file.numRows) + " rows, and holds " + std::to_string(file.numRead));
  }
  return 0;
}

const CParquetFunctions functions = {
    .open = [](const char *path, const char *const *columns, int32_t numColumns, int64_t maxRows) -> CParquetFile * {
      return guarded<CParquetFile *>(nullptr, [&] {
        return open(path, std::set<std::string>(columns, columns + numColumns), maxRows).release();
      });
    },
    .close = [](CParquetFile *file) { delete file; },
    .num_rows = [](CParquetFile *file) { return file->numRows; },
    .num_unreadable = [](CParquetFile *file) { return static_cast<int32_t>(file->unreadable.size()); },
    .unreadable = [](CParquetFile *file, int32_t index) -> CParquetUnreadable {
      const auto &column = file->unreadable[index];
      return {column.name.c_str(), column.reason.path.c_str(), column.reason.type.c_str()};
    },
    .next = [](CParquetFile *file, CParquetRows *rows) -> int32_t {
      return guarded<int32_t>(1, [&] {
        const auto status = next(*file);
        *rows = {file->text.data(), file->ends.data(), static_cast<int64_t>(file->ends.size())};
        return status;
      });
    },
    .error = [] { return lastError.c_str(); },
};

}  // namespace

extern "C" __attribute__((visibility("default"))) const CParquetFunctions *cparquet_functions(void) { return &functions; }
