#pragma once
// A virtual machine of the test's own: Debian's kernel and systemd with the warden's unit, under
// QEMU's software emulation (it needs no /dev/kvm). It lives in a folder of its own below the build
// folder and dies with the thread that started it.

#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/json.h"
#include "base/process.h"
#include "base/result.h"

namespace squall::virtual_machine {

class Machine {
 public:
  // Makes the image if need be, and a disk of this machine's own. kUnsupported when something that
  // it takes is missing on this host; the message says what.
  static base::Result<std::unique_ptr<Machine>> create();
  ~Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  // Boots it and waits until systemd has started the agent.
  base::Status start();
  // The plug is pulled: what the guest had not synced is lost. start() may follow.
  base::Status cut_power();
  // The reset button, by QMP; waits until the agent is there again.
  base::Status reset();

  struct Outcome {
    int status = -1;
    std::string output;
    std::string error;
    base::Instant at;  // when it was over, by the guest's boot clock
  };
  // Runs a program in the guest, as root. An Outcome of status -1 when that failed.
  Outcome run(const std::vector<std::string>& argv,
              base::Duration limit = std::chrono::seconds(60));
  // Starts one that goes on; what it says is in the guest's file `output`.
  Outcome start_in_background(const std::vector<std::string>& argv, const std::string& output);

  const std::string& boot_id() const { return boot_id_; }
  base::Duration boot_took() const { return boot_took_; }
  std::string console() const;  // the end of what the guest's kernel and systemd said

 private:
  explicit Machine(std::string folder);
  base::Status wait_for_agent();
  base::Result<base::Json> receive(base::Duration limit);
  Outcome ask(const base::Json& request, base::Duration limit);
  std::string path(const std::string& name) const { return folder_ + "/" + name; }

  std::string folder_;
  base::ChildProcess emulator_;
  base::UniqueFd agent_;
  std::string received_;
  std::string boot_id_;
  base::Duration boot_took_{};
};

}  // namespace squall::virtual_machine
