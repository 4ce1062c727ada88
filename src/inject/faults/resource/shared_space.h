#pragma once
// Who suffers when a filesystem is full.

#include <string>

namespace squall::inject {

// Do the two lie on one filesystem, or share its space (an overlay and the disk below it, two
// subvolumes)? `other` need not exist yet: then the folder counts in which it would be made. True
// when that cannot be told.
bool share_space(const std::string& one, std::string other);

}  // namespace squall::inject
