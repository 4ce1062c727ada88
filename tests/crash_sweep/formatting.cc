// Our own copy of libfmt, of which Debian ships no archive: the shared one needs a second
// libstdc++, and each start of a program would load both.
#include <fmt/format-inl.h>

template auto fmt::detail::decimal_point_impl(locale_ref) -> char;
template auto fmt::detail::thousands_sep_impl(locale_ref) -> thousands_sep_result<char>;
