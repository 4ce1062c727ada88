// What the holder reads from its sockets: first as raw packets, then, so that the search gets past
// the checksum, as the payload of a frame of the type that the first byte names.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/check.h"
#include "base/frame.h"
#include "inject/faults/kinds.h"
#include "inject/wire.h"

namespace {

using namespace squall;  // NOLINT: a fuzzer

class NoContext final : public inject::FaultContext {
 public:
  base::Status note(const base::Json&) override { return {}; }
  const host::Host& host() override { return host::real_host(); }
  inject::Programs& programs() override { base::check_failed("programs", __FILE__, __LINE__); }
  base::LeaseId lease() const override { return {}; }
  base::Status check_process(const base::ProcessIdentity&) const override { return {}; }
  uid_t caller() const override { return 0; }
};

// A binding that was decoded is handed to its kind, which must refuse it or make an object of it
// without touching anything.
void create_fault(const model::FaultBinding& binding) {
  NoContext context;
  const inject::FaultKind* kind = inject::find_kind(binding.kind);
  if (kind == nullptr) return;
  const auto fault = kind->create(binding, context);
  SQUALL_CHECK(!fault.ok() || *fault != nullptr);
}

void take(std::span<const std::byte> packet) {
  const auto message = inject::decode(packet);
  if (!message.ok()) return;
  const auto again = inject::encode(*message);
  if (again.ok()) SQUALL_CHECK(inject::decode(*again).ok());
  if (const auto* arm = std::get_if<inject::ArmMessage>(&*message))
    create_fault(arm->request.binding);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span{data, size});
  take(bytes);
  if (size == 0) return 0;
  std::vector<std::byte> packet;
  const std::uint16_t type = data[0] < 8 ? data[0] : static_cast<std::uint16_t>(94 + data[0] % 16);
  base::append_frame(packet, type, {}, bytes.subspan(1));
  take(packet);
  return 0;
}
