#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace squall::base {

// The whole file; kExhausted when larger than `limit` bytes (checked before and while reading).
Result<std::string> read_file(const std::string& path, std::size_t limit);
// For /proc and /sys, whose files have no size.
Result<std::string> read_pseudo_file(const std::string& path);
// Written beside, synced, renamed: readers see the old or the new file, never a part.
Status write_file_atomically(const std::string& path, std::string_view content,
                             unsigned mode = 0644);
// write(2) until all is written; handles EINTR and short writes.
Status write_all(int fd, std::span<const std::byte> bytes);
Status write_all(int fd, std::string_view text);
Status make_directories(const std::string& path, unsigned mode = 0755);
Result<std::string> make_temporary_directory(const std::string& prefix);
// The entries of a folder but . and .., in no order; an error when not all could be read.
Result<std::vector<std::string>> names_in_folder(const std::string& path);
// Opens `path` without following a symbolic link in any part of it, so that what is opened lies
// where the path says also when somebody changes folders meanwhile. kBlocked when it meets a link.
Result<UniqueFd> open_without_links(const std::string& path, int flags, unsigned mode = 0);
std::string join_path(std::string_view folder, std::string_view name);
Result<std::uint64_t> free_space(const std::string& path);  // bytes available to us

}  // namespace squall::base
