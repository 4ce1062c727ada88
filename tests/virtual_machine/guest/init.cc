// The first process of the test's virtual machine, from its initial file system: loads the modules
// that the disk needs, mounts it, copies our programs onto it and starts its systemd. Linked
// statically, for there are no libraries yet.

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

namespace {

namespace fs = std::filesystem;

[[noreturn]] void give_up(const char* what) {
  std::printf("init: %s: %s\n", what, std::strerror(errno));
  std::fflush(stdout);
  ::sleep(600);  // the end of the first process would be a panic, which hides the reason
  std::exit(1);
}

void load_modules() {
  std::ifstream order("/modules/order");
  for (std::string name; std::getline(order, name);) {
    const int file = ::open(("/modules/" + name).c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) give_up(name.c_str());
    if (::syscall(SYS_finit_module, file, "", 0) != 0 && errno != EEXIST) give_up(name.c_str());
    ::close(file);
  }
}

void mount_disk() {
  for (int tries = 0; ::mount("/dev/vda", "/disk", "ext4", MS_NOATIME, "") != 0; ++tries) {
    if (tries == 200) give_up("mount /dev/vda");
    ::usleep(50'000);
  }
}

// At the first boot only: after a power cut the disk has it, and what was made of it since.
void put_payload_on_disk() {
  const char* mark = "/disk/.payload-is-here";
  if (::access(mark, F_OK) == 0) return;
  std::error_code error;
  fs::copy("/payload", "/disk",
           fs::copy_options::recursive | fs::copy_options::copy_symlinks |
               fs::copy_options::skip_existing,
           error);
  if (error) give_up(error.message().c_str());
  ::sync();
  std::ofstream{mark};
}

}  // namespace

int main() {
  if (::mount("devtmpfs", "/dev", "devtmpfs", 0, "") != 0) give_up("mount /dev");
  load_modules();
  mount_disk();
  put_payload_on_disk();
  std::error_code error;
  fs::remove_all("/payload", error);
  fs::remove_all("/modules", error);
  if (::mount("/dev", "/disk/dev", nullptr, MS_MOVE, nullptr) != 0) give_up("move /dev");
  if (::chdir("/disk") != 0 || ::mount(".", "/", nullptr, MS_MOVE, nullptr) != 0 ||
      ::chroot(".") != 0 || ::chdir("/") != 0)
    give_up("switch to the disk");
  ::execl("/sbin/init", "/sbin/init", nullptr);
  give_up("start /sbin/init");
}
