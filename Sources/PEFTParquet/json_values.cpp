#include "json_values.h"

#include <arrow/extension_type.h>
#include <arrow/util/float16.h>
#include <arrow/util/utf8.h>

#include <charconv>
#include <cmath>

namespace peftparquet {

namespace {

bool isText(const arrow::DataType &type) {
  switch (type.id()) {
    case arrow::Type::STRING:
    case arrow::Type::LARGE_STRING:
    case arrow::Type::STRING_VIEW: return true;
    default: return false;
  }
}

template <typename Number>
void appendInteger(std::string &json, Number value) {
  char digits[24];
  json.append(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
}

// The shortest digits that are read back to the same number; a point or exponent says that it is no integer.
void appendReal(std::string &json, double value) {
  if (!std::isfinite(value)) {
    json += "null";
    return;
  }
  char digits[32];
  const std::string_view text(digits, std::to_chars(digits, digits + sizeof digits, value).ptr - digits);
  json += text;
  if (text.find_first_of(".e") == text.npos) json += ".0";
}

template <typename List>
void appendList(std::string &json, const List &list, int64_t index) {
  const int64_t start = list.value_offset(index), end = start + list.value_length(index);
  json += '[';
  for (int64_t i = start; i < end; i++) {
    if (i > start) json += ',';
    appendValue(json, *list.values(), i);
  }
  json += ']';
}

void appendStruct(std::string &json, const arrow::StructArray &values, int64_t index) {
  json += '{';
  for (int i = 0; i < values.num_fields(); i++) {
    if (i > 0) json += ',';
    appendText(json, values.struct_type()->field(i)->name());
    json += ':';
    appendValue(json, *values.field(i), index);
  }
  json += '}';
}

void appendMap(std::string &json, const arrow::MapArray &map, int64_t index) {
  const int64_t start = map.value_offset(index), end = start + map.value_length(index);
  json += '{';
  for (int64_t i = start; i < end; i++) {
    if (i > start) json += ',';
    appendValue(json, *map.keys(), i);
    json += ':';
    appendValue(json, *map.items(), i);
  }
  json += '}';
}

template <typename Array>
const Array &as(const arrow::Array &array) {
  return static_cast<const Array &>(array);
}

}  // namespace

std::optional<Refusal> refusal(const arrow::DataType &type, const std::string &path) {
  using arrow::Type;
  switch (type.id()) {
    case Type::NA:
    case Type::BOOL:
    case Type::INT8:
    case Type::INT16:
    case Type::INT32:
    case Type::INT64:
    case Type::UINT8:
    case Type::UINT16:
    case Type::UINT32:
    case Type::UINT64:
    case Type::HALF_FLOAT:
    case Type::FLOAT:
    case Type::DOUBLE:
    case Type::STRING:
    case Type::LARGE_STRING:
    case Type::STRING_VIEW: return std::nullopt;
    case Type::LIST:
    case Type::LARGE_LIST:
    case Type::FIXED_SIZE_LIST: return refusal(*type.field(0)->type(), path + "[]");
    case Type::STRUCT:
      for (const auto &field : type.fields()) {
        if (auto found = refusal(*field->type(), path + "." + field->name())) return found;
      }
      return std::nullopt;
    case Type::MAP: {
      const auto &map = static_cast<const arrow::MapType &>(type);
      if (!isText(*map.key_type())) break;
      return refusal(*map.item_type(), path + "{}");
    }
    case Type::DICTIONARY: return refusal(*static_cast<const arrow::DictionaryType &>(type).value_type(), path);
    case Type::EXTENSION: return refusal(*static_cast<const arrow::ExtensionType &>(type).storage_type(), path);
    default: break;
  }
  return Refusal{path, type.ToString()};
}

void appendText(std::string &json, std::string_view text) {
  static constexpr char hexadecimal[] = "0123456789abcdef";
  if (!arrow::util::ValidateUTF8(text)) throw InvalidText();
  json += '"';
  size_t start = 0;
  for (size_t i = 0; i < text.size(); i++) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte >= 0x20 && byte != '"' && byte != '\\') continue;
    json.append(text, start, i - start);
    start = i + 1;
    if (byte < 0x20) {
      json += "\\u00";
      json += hexadecimal[byte >> 4];
      json += hexadecimal[byte & 15];
    } else {
      json += '\\';
      json += text[i];
    }
  }
  json.append(text, start);
  json += '"';
}

void appendValue(std::string &json, const arrow::Array &array, int64_t index) {
  using arrow::Type;
  if (array.IsNull(index)) {
    json += "null";
    return;
  }
  switch (array.type_id()) {
    case Type::BOOL: json += as<arrow::BooleanArray>(array).Value(index) ? "true" : "false"; return;
    case Type::INT8: return appendInteger(json, as<arrow::Int8Array>(array).Value(index));
    case Type::INT16: return appendInteger(json, as<arrow::Int16Array>(array).Value(index));
    case Type::INT32: return appendInteger(json, as<arrow::Int32Array>(array).Value(index));
    case Type::INT64: return appendInteger(json, as<arrow::Int64Array>(array).Value(index));
    case Type::UINT8: return appendInteger(json, as<arrow::UInt8Array>(array).Value(index));
    case Type::UINT16: return appendInteger(json, as<arrow::UInt16Array>(array).Value(index));
    case Type::UINT32: return appendInteger(json, as<arrow::UInt32Array>(array).Value(index));
    case Type::UINT64: return appendInteger(json, as<arrow::UInt64Array>(array).Value(index));
    case Type::HALF_FLOAT: {
      const auto bits = as<arrow::HalfFloatArray>(array).Value(index);
      return appendReal(json, arrow::util::Float16::FromBits(bits).ToDouble());
    }
    case Type::FLOAT: return appendReal(json, as<arrow::FloatArray>(array).Value(index));
    case Type::DOUBLE: return appendReal(json, as<arrow::DoubleArray>(array).Value(index));
    case Type::STRING: return appendText(json, as<arrow::StringArray>(array).GetView(index));
    case Type::LARGE_STRING: return appendText(json, as<arrow::LargeStringArray>(array).GetView(index));
    case Type::STRING_VIEW: return appendText(json, as<arrow::StringViewArray>(array).GetView(index));
    case Type::LIST: return appendList(json, as<arrow::ListArray>(array), index);
    case Type::LARGE_LIST: return appendList(json, as<arrow::LargeListArray>(array), index);
    case Type::FIXED_SIZE_LIST: return appendList(json, as<arrow::FixedSizeListArray>(array), index);
    case Type::STRUCT: return appendStruct(json, as<arrow::StructArray>(array), index);
    case Type::MAP: return appendMap(json, as<arrow::MapArray>(array), index);
    case Type::DICTIONARY: {
      const auto &encoded = as<arrow::DictionaryArray>(array);
      return appendValue(json, *encoded.dictionary(), encoded.GetValueIndex(index));
    }
    case Type::EXTENSION: return appendValue(json, *as<arrow::ExtensionArray>(array).storage(), index);
    default: json += "null";  // refused before
  }
}

}  // namespace peftparquet
