#pragma once
// squall.yaml: what the system consists of and how to find, reach and probe it.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "model/diagnostic.h"
#include "model/parameters.h"
#include "model/prediction.h"
#include "model/vocabulary.h"

namespace squall::model {

// "127.0.0.1:8080", "[::1]:80", "unix:/run/x.sock"
struct ListenAddress {
  std::string address;
  std::uint16_t port = 0;
  std::string unix_path;
  std::string text() const;
};
// Nothing when `text` is none of the forms above; `localhost` is 127.0.0.1. Other names are not
// looked up.
std::optional<ListenAddress> parse_listen_address(std::string_view text);

// Which processes are members. All given conditions must hold.
struct ProcessSelector {
  std::string exe;            // base name, or full path when it has a slash
  std::string argv_contains;  // some argument contains this text
  std::string user;           // user name
  std::string cgroup;         // v2 path
  bool empty() const {
    return exe.empty() && argv_contains.empty() && user.empty() && cgroup.empty();
  }
};

struct ContainerSelector {
  std::string name;
  std::string label;  // "key=value"
  std::string image;
  bool empty() const { return name.empty() && label.empty() && image.empty(); }
};

// A named member of a service, such as the primary of a database.
struct MemberSelector {
  std::string name;
  std::string role;  // defaults to the name
  std::optional<ListenAddress> listens;
  ProcessSelector process;
  ContainerSelector container;
  std::vector<std::string> start;  // argv; empty: the service's
};

struct Service {
  std::string name;
  std::string kind;       // "postgres", "redis", or empty
  bool external = false;  // not on this host: stands for whoever calls in
  ProcessSelector process;
  ContainerSelector container;
  std::optional<ListenAddress> listens;
  std::vector<std::string> start;  // argv that starts one member; {member} is its name
  std::vector<std::string> depends_on;
  std::vector<std::string> logs;  // files, absolute after parsing
  std::string owner;
  int expected_members = 0;             // `members: 3`; 0: not said
  std::vector<MemberSelector> members;  // `members: { primary: {...} }`
  Location location;
};

struct ProbeSpecification {
  std::string name;
  const ProbeKindDescriptor* kind = nullptr;
  Parameters parameters;
  std::string from;  // service the probe stands for; may be empty
  std::string to;    // service it asks; may be empty
  Location location;
};

// What an environment changes. Unnamed environments are production.
struct Environment {
  std::string name;
  bool production = false;  // `production: true`, or the name is "production"
};

struct Limits {  // of the system, over all experiments: `limits:`
  base::Duration longest_fault = std::chrono::minutes(10);
  int processes = 0;  // 0: none stated
};

struct SystemMap {
  std::string file;       // path it was read from
  std::string directory;  // folder of `file`, absolute: relative paths and argv start here
  std::string name;
  std::vector<Service> services;
  std::vector<ProbeSpecification> probes;
  std::vector<Prediction> steady_state;
  std::vector<Prediction> abort_when;     // system-wide limits
  std::vector<std::string> environments;  // names that the file defines
  Environment environment;                // the one chosen
  Limits limits;

  const Service* service(std::string_view name) const;
  const ProbeSpecification* probe(std::string_view name) const;
  // Services that `name` depends on, directly or not, and those that depend on it ("downstream" of
  // a fault are the callers: whoever depends on the faulted service).
  std::vector<std::string> dependents_of(std::string_view name) const;
};

// Parses and validates `text`; merges the overrides of `environment` (empty: "production" if the
// file has none named so, an unnamed environment that counts as production). All mistakes go to
// `diagnostics`; the map is usable only when there are no errors. `file` is for messages and paths;
// nothing is read from disk.
SystemMap parse_system_map(std::string_view text, const std::string& file,
                           const std::string& environment, const Vocabulary& vocabulary,
                           Diagnostics& diagnostics);

}  // namespace squall::model
