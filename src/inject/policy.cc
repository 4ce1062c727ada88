#include "inject/policy.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>

#include "base/files.h"
#include "base/text.h"
#include "inject/faults/kinds.h"
#include "model/file_reader.h"
#include "model/yaml_document.h"

namespace squall::inject {

namespace {

using model::FileContext;
using model::MapReader;
using model::YamlNode;

constexpr base::Duration kLongest = std::chrono::hours(24);

base::Error not_roots(const std::string& path, std::string_view what) {
  return base::Error{
      .code = base::ErrorCode::kPermission,
      .message = fmt::format("{} {}, so it is not believed, and nobody but root may inject faults",
                             path, what),
      .hint = fmt::format("chown root {0} && chmod go-w {0}", path)};
}

// Whoever may write the file, or may put another one in its place, makes the policy.
base::Status check_roots(const struct stat& info, const std::string& path) {
  if (info.st_uid != 0) return not_roots(path, fmt::format("belongs to user {}", info.st_uid));
  if ((info.st_mode & (S_IWGRP | S_IWOTH)) != 0)
    return not_roots(path, "may be written by others than root");
  return {};
}

base::Result<std::string> read_trusted(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  const std::string folder = slash == 0 || slash == std::string::npos ? "/" : path.substr(0, slash);
  const base::UniqueFd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)};
  if (!file && errno == ELOOP) return not_roots(path, "is a symbolic link");
  if (!file) return base::system_error("open " + path, errno);
  struct stat info {};
  if (::stat(folder.c_str(), &info) != 0) return base::system_error("look at " + folder, errno);
  SQUALL_TRY(check_roots(info, folder));
  if (::fstat(file.get(), &info) != 0) return base::system_error("look at " + path, errno);
  if (!S_ISREG(info.st_mode)) return not_roots(path, "is no file");
  SQUALL_TRY(check_roots(info, path));
  return base::read_file(fmt::format("/proc/self/fd/{}", file.get()), model::kFileSizeLimit);
}

std::optional<std::uint32_t> number_of(const std::string& text) {
  std::uint32_t number = 0;
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, number);
  if (parsed.ec != std::errc{} || parsed.ptr != end) return std::nullopt;
  return number;
}

std::optional<uid_t> user_of(const std::string& name) {
  std::array<char, 16384> buffer{};
  passwd entry{};
  passwd* found = nullptr;
  if (::getpwnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found) == 0 &&
      found != nullptr)
    return found->pw_uid;
  return number_of(name);
}

std::optional<gid_t> group_of(const std::string& name) {
  std::array<char, 16384> buffer{};
  group entry{};
  group* found = nullptr;
  if (::getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found) == 0 &&
      found != nullptr)
    return found->gr_gid;
  return number_of(name);
}

// Nothing but comments: no rules.
bool is_blank(std::string_view text) {
  for (const std::string& line : base::split(text, '\n')) {
    const std::string_view content = base::trim(line);
    if (!content.empty() && content.front() != '#') return false;
  }
  return true;
}

// A list with at least one entry; each mistake at its own place.
template <typename Take>
void read_list(const FileContext& context, const YamlNode& node, std::string_view what, Take take) {
  if (!node.is_sequence() || node.items.empty()) {
    context.error(node,
                  fmt::format("{} is {}; a list is wanted", what,
                              node.is_sequence() ? "empty" : model::described(node)),
                  "write [one, two]");
    return;
  }
  for (const auto& item : node.items) {
    if (const auto text = model::read_text(context, *item, fmt::format("an entry of {}", what)))
      take(*item, *text);
  }
}

class RuleReader {
 public:
  RuleReader(const FileContext& context, const YamlNode& node, base::Duration longest)
      : context_(context), node_(node), map_(context, node, "a rule of `allow`") {
    rule_.line = node.line;
    rule_.longest_fault = longest;
  }

  PolicyRule read() {
    if (!map_.valid()) return rule_;
    read_ids("users", "user", rule_.users, user_of);
    read_ids("groups", "group", rule_.groups, group_of);
    read_ids("targets", "user", rule_.targets, user_of);
    read_kinds();
    read_paths();
    read_ports();
    read_units();
    if (const YamlNode* memory = map_.find("memory"))
      rule_.memory = model::read_size(context_, *memory, "`memory`").value_or(0);
    if (const YamlNode* start = map_.find("start"))
      rule_.start = model::read_boolean(context_, *start, "`start`").value_or(false);
    if (const YamlNode* longest = map_.find("longest_fault")) {
      rule_.longest_fault =
          model::read_positive_duration(context_, *longest, "`longest_fault`", kLongest)
              .value_or(rule_.longest_fault);
    }
    map_.finish();
    if (node_.find("users") == nullptr && node_.find("groups") == nullptr)
      context_.error(node_, "a rule of `allow` says for nobody", "add `users:` or `groups:`");
    return rule_;
  }

 private:
  template <typename Find>
  void read_ids(std::string_view key, std::string_view noun, std::vector<std::uint32_t>& ids,
                Find find) {
    const YamlNode* node = map_.find(key);
    if (node == nullptr) return;
    read_list(context_, *node, fmt::format("`{}`", key),
              [&](const YamlNode& item, const std::string& name) {
                if (const auto id = find(name))
                  ids.push_back(*id);
                else
                  context_.error(item, fmt::format("this host has no {} `{}`", noun, name),
                                 "write a name that it has, or a number");
              });
  }

  void read_kinds() {
    const YamlNode* node = map_.require("kinds", "name the kinds or families of faults");
    if (node == nullptr) return;
    std::vector<std::string> known;
    for (const auto* descriptor : fault_kinds()) {
      known.emplace_back(descriptor->name);
      std::string family(descriptor->name.substr(0, descriptor->name.find('.')));
      if (std::find(known.begin(), known.end(), family) == known.end())
        known.push_back(std::move(family));
    }
    read_list(context_, *node, "`kinds`", [&](const YamlNode& item, const std::string& name) {
      rule_.kinds.push_back(name);
      if (std::find(known.begin(), known.end(), name) != known.end()) return;
      const std::string near = base::nearest(name, known);
      context_.error(
          item, fmt::format("there is no kind and no family of faults `{}`", name),
          near.empty() ? "`squall kinds` lists them" : fmt::format("did you mean `{}`?", near));
    });
  }

  void read_paths() {
    const YamlNode* node = map_.find("paths");
    if (node == nullptr) return;
    read_list(context_, *node, "`paths`", [&](const YamlNode& item, const std::string& path) {
      if (path.starts_with('/') && path.find("/../") == std::string::npos && !path.ends_with("/.."))
        rule_.paths.push_back(path);
      else
        context_.error(item, fmt::format("`{}` is no full path", path), "begin it with a slash");
    });
  }

  void read_ports() {
    const YamlNode* node = map_.find("ports");
    if (node == nullptr) return;
    read_list(context_, *node, "`ports`", [&](const YamlNode& item, const std::string& text) {
      const auto number = number_of(text);
      if (number && *number > 0 && *number <= 65535)
        rule_.ports.push_back(static_cast<std::uint16_t>(*number));
      else
        context_.error(item, fmt::format("`{}` is no port", text), "write 1 to 65535");
    });
  }

  void read_units() {
    const YamlNode* node = map_.find("units");
    if (node == nullptr) return;
    read_list(context_, *node, "`units`", [&](const YamlNode& item, const std::string& name) {
      const std::size_t dot = name.rfind('.');
      if (dot != std::string::npos && dot > 0 && dot + 1 < name.size())
        rule_.units.push_back(name);
      else
        context_.error(item, fmt::format("`{}` is no whole name of a unit", name),
                       "write redis-server.service");
    });
  }

  const FileContext& context_;
  const YamlNode& node_;
  MapReader map_;
  PolicyRule rule_;
};

}  // namespace

bool PolicyRule::is_for(const Account& caller) const {
  return std::find(users.begin(), users.end(), caller.user) != users.end() ||
         std::any_of(groups.begin(), groups.end(),
                     [&](gid_t group) { return caller.in_group(group); });
}

bool PolicyRule::names(std::string_view kind) const {
  return std::any_of(kinds.begin(), kinds.end(), [&](const std::string& name) {
    return kind == name || (kind.starts_with(name) && kind.substr(name.size()).starts_with('.'));
  });
}

base::Result<Policy> parse_policy(std::string_view text, const std::string& file) {
  Policy policy;
  policy.file = file;
  if (is_blank(text)) return policy;
  model::Diagnostics diagnostics;
  diagnostics.set_source(file, text);
  const auto document = model::YamlDocument::parse(text, file, diagnostics);
  if (diagnostics.has_errors()) return diagnostics.to_error();
  const FileContext context{document, diagnostics};
  MapReader map(context, *document.root(), "the policy");
  if (const YamlNode* longest = map.find("longest_fault")) {
    policy.longest_fault =
        model::read_positive_duration(context, *longest, "`longest_fault`", kLongest)
            .value_or(policy.longest_fault);
  }
  if (const YamlNode* allow = map.find("allow")) {
    if (allow->is_sequence()) {
      for (const auto& rule : allow->items)
        policy.rules.push_back(RuleReader(context, *rule, policy.longest_fault).read());
    } else {
      context.error(
          *allow, fmt::format("`allow` is {}; a list of rules is wanted", model::described(*allow)),
          "begin each rule with a dash");
    }
  }
  map.finish();
  if (diagnostics.has_errors()) return diagnostics.to_error();
  return policy;
}

base::Result<Policy> read_policy(const std::string& path) {
  const std::string file = path.empty() ? std::string(kPolicyFile) : path;
  auto text = read_trusted(file);
  if (text.ok()) return parse_policy(*text, file);
  if (text.error().code == base::ErrorCode::kNotFound) {
    Policy none;
    none.file = file;
    return none;
  }
  return std::move(text).error();
}

}  // namespace squall::inject
