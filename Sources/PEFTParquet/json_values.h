// Values of Arrow arrays as JSON.
#pragma once

#include <arrow/array.h>
#include <arrow/type.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace peftparquet {

// A text that is not UTF-8.
struct InvalidText {};

// What of a type has no text in JSON.
struct Refusal {
  std::string path;
  std::string type;
};

// The first part of a type, which is found at a path, that has no text in JSON.
std::optional<Refusal> refusal(const arrow::DataType &type, const std::string &path);

// Appends a text in quotes.
//
// - Throws: InvalidText.
void appendText(std::string &json, std::string_view text);

// Appends one value of an array whose type is not refused, as Python's json writes what pyarrow makes of it: numbers with all their
// digits, so that they are read back as they were; NaN and infinities, which JSON does not have, as null, as pandas and datasets write
// them; maps as objects.
//
// - Throws: InvalidText.
void appendValue(std::string &json, const arrow::Array &array, int64_t index);

}  // namespace peftparquet
