#pragma once
// What the kinds share that use up a filesystem, a disk or the memory below one.

#include <cstdint>
#include <string>

#include "inject/client.h"

namespace squall::inject {

// kBlocked when `path` lies on the filesystem of Squall's journals or of the run's record, or
// shares its space.
base::Status check_not_our_own(const BindRequest& request, const std::string& path);

// Without links, so that what is bound is what is opened later; as it is where there is nothing.
std::string real_path(const std::string& path);

// "254:0" of the whole disk: partitions cannot be throttled. kUnsupported when there is none.
base::Result<std::string> disk_of(const std::string& path);

// Bytes that programs can still get without swapping; 0 when the kernel does not say.
std::uint64_t available_memory();

}  // namespace squall::inject
