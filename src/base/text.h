#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace squall::base {

// The candidate nearest to `word` by edit distance, if it is near enough to be a likely typing
// mistake (distance at most a third of the length, at least 1); else empty.
std::string_view nearest(std::string_view word, std::span<const std::string_view> candidates);
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

// " Did you mean `x`?" or empty.
std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates);

bool is_valid_utf8(std::string_view bytes);
// Control characters and invalid UTF-8 made visible, so that untrusted text cannot drive a
// terminal.
std::string printable(std::string_view text);
// The same text with every invalid byte replaced by U+FFFD.
std::string valid_utf8(std::string_view bytes);
std::vector<std::string> split(std::string_view text, char separator);
std::string_view trim(std::string_view text);
std::string join(const std::vector<std::string>& parts, std::string_view separator);
// "a, b and c"
std::string enumerate(const std::vector<std::string>& parts);
// "1 fault", "3 faults"; `plural` where an s is not enough: "2 processes".
std::string counted(std::size_t count, std::string_view noun, std::string_view plural = {});

}  // namespace squall::base
