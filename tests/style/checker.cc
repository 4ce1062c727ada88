#include "style/checker.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <regex>

namespace squall::style {

namespace {

constexpr std::size_t kLongestFile = 700;
constexpr std::size_t kWidestLine = 100;

std::string place(const SourceFile& file, std::size_t line_index) {
  return file.path + ":" + std::to_string(line_index + 1) + ": ";
}

// "base" of "src/base/fd.cc"; empty outside of src/.
std::string room_of(const std::string& path) {
  if (!path.starts_with("src/")) return {};
  const auto end = path.find('/', 4);
  return end == std::string::npos ? std::string() : path.substr(4, end - 4);
}

// A problem for every line in which `pattern` is found. Only lines with one of `hints` are looked
// at: the standard library's expressions are slow.
void find_in_lines(const SourceFile& file, const std::vector<std::string>& hints,
                   const std::regex& pattern, const std::string& advice,
                   std::vector<std::string>& problems) {
  for (std::size_t i = 0; i < file.lines.size(); ++i) {
    const std::string& line = file.lines[i];
    const bool worth_it = std::any_of(hints.begin(), hints.end(), [&](const std::string& hint) {
      return line.find(hint) != std::string::npos;
    });
    if (worth_it && std::regex_search(line, pattern)) problems.push_back(place(file, i) + advice);
  }
}

std::size_t columns(const std::string& line) {
  return static_cast<std::size_t>(std::count_if(line.begin(), line.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

const Room* find_room(const std::vector<Room>& table, const std::string& name) {
  const auto found =
      std::find_if(table.begin(), table.end(), [&](const Room& room) { return room.name == name; });
  return found == table.end() ? nullptr : &*found;
}

std::string check_include(const Room& room, const std::string& target,
                          const std::vector<Room>& table) {
  const auto slash = target.find('/');
  const std::string name = target.substr(0, slash);
  const Room* other = find_room(table, name);
  if (slash == std::string::npos || other == nullptr) {
    return "includes \"" + target +
           "\", which begins with no room. Write our includes from src, as \"base/result.h\", and "
           "others' in angle brackets; a new room also needs a line in tests/style/checker.cc";
  }
  if (name == room.name || name == "base") return {};
  if (std::find(room.may_include.begin(), room.may_include.end(), name) != room.may_include.end())
    return {};
  if (other > &room) {
    return "`" + room.name + "` includes \"" + target + "\", but `" + name +
           "` stands on a higher floor. Move what is shared down, or hand it in from above "
           "through an interface that `" +
           room.name + "` declares";
  }
  return "`" + room.name + "` includes \"" + target + "\", but may not use `" + name +
         "`. Move the code to a room that may, or, if the design is to change, change the table in "
         "tests/style/checker.cc, USES in CMakeLists.txt and ARCHITECTURE.md together";
}

}  // namespace

std::vector<SourceFile> read_sources(const std::string& root,
                                     const std::vector<std::string>& folders) {
  namespace fs = std::filesystem;
  std::vector<SourceFile> files;
  for (const std::string& folder : folders) {
    const fs::path start = fs::path(root) / folder;
    if (!fs::is_directory(start)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(start)) {
      const auto extension = entry.path().extension();
      if (!entry.is_regular_file() || (extension != ".cc" && extension != ".h")) continue;
      SourceFile file{.path = fs::relative(entry.path(), root).string()};
      std::ifstream stream(entry.path());
      for (std::string line; std::getline(stream, line);) file.lines.push_back(line);
      files.push_back(std::move(file));
    }
  }
  std::sort(files.begin(), files.end(),
            [](const SourceFile& a, const SourceFile& b) { return a.path < b.path; });
  return files;
}

const std::vector<Room>& rooms() {
  static const std::vector<Room> table{
      {"base", {}},
      {"model", {}},
      {"host", {"model"}},
      {"evidence", {"model"}},
      {"judge", {"evidence", "model"}},
      {"observe", {"evidence", "host", "model"}},
      {"inject", {"host", "model"}},
      {"safety", {"judge", "model"}},
      {"store", {"judge", "evidence", "model"}},
      {"report", {"judge", "evidence", "model"}},
      {"engine",
       {"report", "store", "safety", "inject", "observe", "judge", "evidence", "host", "model"}},
      {"cli",
       {"engine", "report", "store", "safety", "inject", "observe", "judge", "evidence", "host",
        "model"}},
  };
  return table;
}

std::vector<std::string> check_table(const std::vector<Room>& table) {
  std::vector<std::string> problems;
  for (const Room& room : table) {
    for (const std::string& name : room.may_include) {
      const Room* other = find_room(table, name);
      if (other == nullptr || other >= &room) {
        problems.push_back("the table lets `" + room.name + "` use `" + name +
                           "`, which is not above it in the table. Take it out");
      }
    }
  }
  return problems;
}

std::vector<std::string> check_layers(const std::vector<SourceFile>& files,
                                      const std::vector<Room>& table) {
  static const std::regex kInclude(R"re(^\s*#\s*include\s*"([^"]+)")re");
  std::vector<std::string> problems;
  for (const SourceFile& file : files) {
    const std::string name = room_of(file.path);
    if (!file.path.starts_with("src/")) continue;
    const Room* room = find_room(table, name);
    if (room == nullptr) {
      problems.push_back(file.path +
                         ": stands in no room of the house. Move it, or add the room to "
                         "the table in tests/style/checker.cc");
      continue;
    }
    for (std::size_t i = 0; i < file.lines.size(); ++i) {
      std::smatch match;
      if (file.lines[i].find("include") == std::string::npos) continue;
      if (!std::regex_search(file.lines[i], match, kInclude)) continue;
      const std::string problem = check_include(*room, match[1], table);
      if (!problem.empty()) problems.push_back(place(file, i) + problem);
    }
  }
  return problems;
}

std::vector<std::string> check_no_shell(const std::vector<SourceFile>& files) {
  // A call, not a member of that name and not a longer name such as system_error.
  static const std::regex kCall(R"((^|[^A-Za-z0-9_.>])(system|popen|posix_spawnp?|wordexp)\()");
  static const std::regex kShell(R"re((^|[^A-Za-z])(ba|da|z|k)?sh"?\s*,?\s*"?-)re"
                                 "c\\b");
  std::vector<std::string> problems;
  for (const SourceFile& file : files) {
    if (!file.path.starts_with("src/")) continue;
    find_in_lines(file, {"system(", "popen(", "spawn", "wordexp("}, kCall,
                  "starts a program past base/process.h. Use base::run_command with argv",
                  problems);
    find_in_lines(file, {"sh"}, kShell, "goes through a shell. Pass argv to base::run_command",
                  problems);
  }
  return problems;
}

std::vector<std::string> check_no_leftovers(const std::vector<SourceFile>& files) {
  // Put together from parts, so that this file passes its own check.
  static const std::regex kMark(std::string("\\b(TO") + "DO|FIX" + "ME|XX" + "X)\\b");
  static const std::regex kMachine(std::string("/wo") + "rk/(main|shared|\\.library)");
  std::vector<std::string> problems;
  for (const SourceFile& file : files) {
    find_in_lines(file, {"TO", "FIX", "XX"}, kMark,
                  "puts work off. Do it now, or file an issue and take the mark out", problems);
    find_in_lines(file, {"/wo"}, kMachine,
                  "names a path of one developer's machine. Use a path from the source folder",
                  problems);
  }
  return problems;
}

std::vector<std::string> check_sizes(const std::vector<SourceFile>& files) {
  std::vector<std::string> problems;
  for (const SourceFile& file : files) {
    if (file.lines.size() > kLongestFile) {
      problems.push_back(file.path + ": has " + std::to_string(file.lines.size()) +
                         " lines, more than " + std::to_string(kLongestFile) +
                         ". Split it by what its parts are for");
    }
    for (std::size_t i = 0; i < file.lines.size(); ++i) {
      if (columns(file.lines[i]) <= kWidestLine) continue;
      problems.push_back(place(file, i) + "is " + std::to_string(columns(file.lines[i])) +
                         " columns wide, more than " + std::to_string(kWidestLine) +
                         ". Run clang-format, or break the text by hand");
    }
  }
  return problems;
}

}  // namespace squall::style
