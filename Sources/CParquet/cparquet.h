// The library PEFTParquet behind a C ABI: rows of a Parquet file as texts in JSON.
//
// The library is loaded when the first Parquet file is opened, so that no other run pays for Arrow's; therefore it exports one
// function, `cparquet_functions`, and this header is all that the rest of the package sees.
//
// Conventions
// - No C++ exception leaves the library.
// - A function that fails says so by its result; then `error` has the reason, in the same thread and until the next call.
// - Texts and arrays belong to the file, and are valid until the next `next` or `close`.
#ifndef CPARQUET_H
#define CPARQUET_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// A file that is open, and its place in it.
typedef struct CParquetFile CParquetFile;

// Some rows, one JSON object each, one after another in `text`.
typedef struct {
  const char *text;
  const int64_t *ends;  // of each row, in bytes from the start of `text`
  int64_t count;
} CParquetRows;

// A column whose values have no text in JSON.
typedef struct {
  const char *name;
  const char *path;  // of what is in the way, from the column on: "messages[].time"
  const char *type;  // its type in Arrow's words
} CParquetUnreadable;

typedef struct {
  // Opens a file. Of the named columns rows have the values; of any other column they have `true` where it is not null, which is
  // not even read where the file's statistics tell. NULL: failed.
  CParquetFile *(*open)(const char *path, const char *const *columns, int32_t num_columns, int64_t max_rows);
  void (*close)(CParquetFile *file);
  // The rows of the whole file.
  int64_t (*num_rows)(CParquetFile *file);
  // The named columns whose values have no text in JSON, of which rows have `true`, too.
  int32_t (*num_unreadable)(CParquetFile *file);
  CParquetUnreadable (*unreadable)(CParquetFile *file, int32_t index);
  // The next rows, at most `max_rows`; none at the end. 0: done; 1: the file cannot be read; 2: the next row cannot be read.
  int32_t (*next)(CParquetFile *file, CParquetRows *rows);
  const char *(*error)(void);
} CParquetFunctions;

const CParquetFunctions *cparquet_functions(void);

#ifdef __cplusplus
}
#endif

#endif
