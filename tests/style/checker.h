#pragma once
// Reads the source tree and says what breaks the rules of the house. Each problem names the file
// and line, the rule, and what to do.

#include <map>
#include <string>
#include <vector>

namespace squall::style {

struct SourceFile {
  std::string path;  // from the root: "src/base/fd.cc"
  std::vector<std::string> lines;
};

// All .cc and .h files below root/folder for each folder that exists, sorted by path.
std::vector<SourceFile> read_sources(const std::string& root,
                                     const std::vector<std::string>& folders);

// A room and the rooms that it may include beside itself and base, from the ground up.
struct Room {
  std::string name;
  std::vector<std::string> may_include;
};
const std::vector<Room>& rooms();

// The table's own mistakes: a room that uses one that does not stand above it in the table.
std::vector<std::string> check_table(const std::vector<Room>& table);

// Includes in src/ that point to a higher floor, to a room that is not allowed, or to no room.
std::vector<std::string> check_layers(const std::vector<SourceFile>& files,
                                      const std::vector<Room>& table);

// system, popen and "sh -c" in src/.
std::vector<std::string> check_no_shell(const std::vector<SourceFile>& files);
// Work put off, and paths of the machine that it was written on.
std::vector<std::string> check_no_leftovers(const std::vector<SourceFile>& files);
// Files of at most 700 lines, lines of at most 100 columns.
std::vector<std::string> check_sizes(const std::vector<SourceFile>& files);

}  // namespace squall::style
