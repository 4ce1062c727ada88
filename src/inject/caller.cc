#include "inject/caller.h"

#include <fmt/format.h>
#include <pwd.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "base/files.h"
#include "base/text.h"
#include "inject/json_fields.h"

namespace squall::inject {

namespace {

using base::Json;

constexpr uid_t kUnknownUser = 65534;  // what users of other namespaces look like

// The numbers behind `key` in the text of /proc/PID/status: "Uid:\t1000\t1000\t1000\t1000".
std::vector<std::uint32_t> ids_of(const std::string& status, const std::string& key) {
  std::vector<std::uint32_t> ids;
  const std::size_t at = status.find("\n" + key + ":");
  if (at == std::string::npos) return ids;
  const char* text = status.c_str() + at + key.size() + 2;
  while (*text == ' ' || *text == '\t') ++text;
  while (*text >= '0' && *text <= '9') {
    char* end = nullptr;
    ids.push_back(static_cast<std::uint32_t>(std::strtoul(text, &end, 10)));
    text = end;
    while (*text == ' ' || *text == '\t') ++text;
  }
  return ids;
}

std::vector<std::uint32_t> numbers_from(const Json& array) {
  std::vector<std::uint32_t> numbers;
  if (!array.is_array()) return numbers;
  for (const Json& item : array) {
    if (item.is_number_unsigned()) numbers.push_back(item.get<std::uint32_t>());
  }
  return numbers;
}

}  // namespace

bool Account::in_group(gid_t wanted) const {
  return group == wanted || std::find(groups.begin(), groups.end(), wanted) != groups.end();
}

base::Result<Account> peer_account(int socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
    return base::system_error("ask who connected", errno);
  Account account{.user = peer.uid, .group = peer.gid};
  if (account.user == kUnknownUser || account.user == static_cast<uid_t>(-1)) {
    return base::Error{.code = base::ErrorCode::kPermission,
                       .message = "the caller is a user whom this host does not know",
                       .hint = "run it as a user of this host, outside of user namespaces"};
  }
  account.groups.resize(64);
  while (true) {
    size = static_cast<socklen_t>(account.groups.size() * sizeof(gid_t));
    if (::getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, account.groups.data(), &size) == 0) break;
    if (errno != ERANGE) return base::system_error("ask for the caller's groups", errno);
    account.groups.resize(size / sizeof(gid_t));
  }
  account.groups.resize(size / sizeof(gid_t));
  return account;
}

base::Result<Account> account_of(const base::ProcessIdentity& process) {
  const base::Error gone{.code = base::ErrorCode::kNotFound,
                         .message = fmt::format("process {} has ended", process.pid)};
  const auto opened = base::PidFd::open(process);
  if (!opened.ok()) return opened.error();
  const auto status = base::read_pseudo_file(fmt::format("/proc/{}/status", process.pid));
  if (opened->ended()) return gone;  // else the number is still this process's
  if (!status.ok()) return status.error();
  const auto users = ids_of(*status, "Uid");
  const auto groups = ids_of(*status, "Gid");
  if (users.size() != 4 || groups.size() != 4) return gone;
  if (std::count(users.begin(), users.end(), users[0]) != 4) {
    return base::Error{
        .code = base::ErrorCode::kPermission,
        .message = fmt::format("process {} has the rights of several users: {}, {} and {}",
                               process.pid, users[0], users[1], users[2]),
        .hint = "aim at processes of one user"};
  }
  return Account{.user = users[0], .group = groups[1], .groups = ids_of(*status, "Groups")};
}

std::string user_text(uid_t user) {
  const std::unique_ptr<FILE, int (*)(FILE*)> file{std::fopen("/etc/passwd", "re"), &std::fclose};
  std::array<char, 4096> buffer{};
  passwd entry{};
  passwd* found = nullptr;
  while (file && ::fgetpwent_r(file.get(), &entry, buffer.data(), buffer.size(), &found) == 0) {
    if (entry.pw_uid == user)
      return fmt::format("{} (user {})", base::printable(entry.pw_name), user);
  }
  return fmt::format("user {}", user);
}

base::Status check_process(const Grant& grant, const base::ProcessIdentity& process) {
  if (grant.caller.is_root()) return {};
  SQUALL_ASSIGN(const Account account, account_of(process));
  if (account.user == grant.caller.user ||
      std::find(grant.targets.begin(), grant.targets.end(), account.user) != grant.targets.end())
    return {};
  return base::Error{
      .code = base::ErrorCode::kBlocked,
      .message = fmt::format("process {} belongs to {}, whose processes {} may not "
                             "touch",
                             process.pid, user_text(account.user), user_text(grant.caller.user)),
      .hint =
          "aim at processes of your own, or ask root for a rule in the host's "
          "policy file: docs/files.md"};
}

Json to_json(const Account& account) {
  return {{"user", account.user}, {"group", account.group}, {"groups", account.groups}};
}

Account account_from_json(const Json& json) {
  // Whoever cannot be read is nobody, and never root.
  const bool known = json.is_null() || field(json, "user").is_number_unsigned();
  return {.user = known ? static_cast<uid_t>(unsigned_field(json, "user")) : kUnknownUser,
          .group = static_cast<gid_t>(unsigned_field(json, "group")),
          .groups = numbers_from(field(json, "groups"))};
}

Json to_json(const Grant& grant) {
  Json json = {{"caller", to_json(grant.caller)}, {"targets", grant.targets}};
  if (grant.start_as) json["start_as"] = to_json(*grant.start_as);
  if (grant.trace_as) json["trace_as"] = to_json(*grant.trace_as);
  return json;
}

Grant grant_from_json(const Json& json) {
  Grant grant{.caller = account_from_json(field(json, "caller")),
              .targets = numbers_from(field(json, "targets"))};
  if (field(json, "start_as").is_object())
    grant.start_as = account_from_json(field(json, "start_as"));
  if (field(json, "trace_as").is_object())
    grant.trace_as = account_from_json(field(json, "trace_as"));
  return grant;
}

}  // namespace squall::inject
