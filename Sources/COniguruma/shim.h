#pragma once
#include <stddef.h>
#include <oniguruma.h>

/// Compiles a UTF-8 pattern in Oniguruma's own syntax, the default of the engine.
/// (Oniguruma names encoding and syntax by mutable globals, which Swift cannot read safely.)
static inline int coniguruma_new(OnigRegex *regex, const OnigUChar *pattern, size_t length,
                                 OnigErrorInfo *info) {
    return onig_new(regex, pattern, pattern + length, ONIG_OPTION_NONE, &OnigEncodingUTF8,
                    &OnigSyntaxOniguruma, info);
}

/// Starts the library with the one encoding in use; once a process, before any pattern.
static inline int coniguruma_initialize(void) {
    OnigEncoding encodings[] = {&OnigEncodingUTF8};
    return onig_initialize(encodings, 1);
}

/// Writes the text of an error code; returns its length. (The C function is variadic.)
static inline int coniguruma_message(OnigUChar *buffer, int code, OnigErrorInfo *info) {
    return onig_error_code_to_str(buffer, code, info);
}
