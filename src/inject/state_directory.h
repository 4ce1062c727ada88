#pragma once
// Where Squall keeps what it must know about running faults: lease journals, run files with their
// stop sockets, and the kill switch. One folder for the whole host, so that runs see one another.

#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace squall::inject {

class StateDirectory {
 public:
  // `path` empty: /run/squall, or /dev/shm/squall where /run is on a disk and /dev/shm is not; the
  // reverts that must survive a reboot lie in /var/lib/squall. With a path everything is below it.
  // Creates nothing.
  explicit StateDirectory(const std::string& path = {});

  // Creates the folders. kPermission when one belongs to somebody else or others may write to it.
  base::Status create() const;

  const std::string& path() const { return path_; }
  std::string leases() const;          // moot after a reboot
  std::string durable_leases() const;  // not moot
  std::string runs() const;
  std::string kill_switch() const;

  // All journal files: `*.lease`, full paths, sorted. Missing folders count as empty.
  std::vector<std::string> lease_files() const;
  // The same for who must not miss one: an error when a folder cannot be read.
  base::Result<std::vector<std::string>> list_lease_files() const;

  // Taken while looking for conflicting leases and adding one. kConflict when somebody keeps it
  // for longer than 100 ms.
  base::Result<base::UniqueFd> lock() const;

 private:
  std::string path_;
  std::string durable_;
};

// Files in `folder` whose names end with `suffix`, full paths, sorted.
std::vector<std::string> files_with_suffix(const std::string& folder, std::string_view suffix);

// Empty when it cannot be read. Then nobody knows whether the machine was booted since.
std::string boot_id();

}  // namespace squall::inject
