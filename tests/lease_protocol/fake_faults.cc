#include "fake_faults.h"

#include <array>

#include "inject/json_fields.h"

namespace squall::lease_protocol {

namespace {

using inject::FaultContext;
using inject::FaultKind;
using inject::Step;

class HeldFault final : public inject::Fault {
 public:
  explicit HeldFault(FaultContext& context) : context_(context) {}
  Step arm() override {
    if (auto noted = context_.note({{"held", true}}); !noted.ok())
      return Step::failed(std::move(noted).error());
    auto object = std::make_shared<Object>();
    object->kind = Object::Kind::kFault;
    world().held = object;
    world().armed_at = Machine::current()->boot();
    descriptor_.reset(Machine::current()->add(std::move(object)));
    Machine::current()->step("armed");
    return Step::done("held");
  }
  Step effective() override { return Step::done("effective"); }
  Step revert() override {
    Machine::current()->step("revert");
    descriptor_.reset();
    Machine::current()->step("reverted");
    return Step::done("let go");
  }
  Step verify() override {
    if (!world().held.expired()) return Step::wait(std::chrono::milliseconds(5));
    return Step::done("gone");
  }
  void recall(const base::Json&) override {}

 private:
  FaultContext& context_;
  base::UniqueFd descriptor_;
};

class ChangedFault final : public inject::Fault {
 public:
  explicit ChangedFault(FaultContext& context) : context_(context) {}
  Step arm() override {
    if (auto noted = context_.note({{"changing", true}}); !noted.ok())
      return Step::failed(std::move(noted).error());
    noted_ = true;
    Machine::current()->step("noted");
    world().changed = true;
    world().armed_at = Machine::current()->boot();
    Machine::current()->step("armed");
    return Step::done("changed");
  }
  Step effective() override { return Step::done("effective"); }
  Step revert() override {
    Machine::current()->step("revert");
    if (noted_) world().changed = false;
    Machine::current()->step("reverted");
    return Step::done("changed back");
  }
  Step verify() override {
    if (noted_ && world().changed)
      return Step::failed(
          base::Error{.code = base::ErrorCode::kRevertNotVerified, .message = "still changed"});
    return Step::done("as before");
  }
  void recall(const base::Json& found) override { noted_ = noted_ || found.contains("changing"); }

 private:
  FaultContext& context_;
  bool noted_ = false;
};

template <typename Fault>
base::Result<std::unique_ptr<inject::Fault>> create(const model::FaultBinding&,
                                                    FaultContext& context) {
  return std::unique_ptr<inject::Fault>{std::make_unique<Fault>(context)};
}

constexpr model::FaultKindDescriptor kHeldDescriptor{.name = "fake.held"};
constexpr model::FaultKindDescriptor kChangedDescriptor{.name = "fake.changed"};
const FaultKind kHeld{.descriptor = &kHeldDescriptor, .create = create<HeldFault>};
const FaultKind kChanged{.descriptor = &kChangedDescriptor, .create = create<ChangedFault>};
constexpr std::array kKinds{&kHeld, &kChanged};

}  // namespace

World& world() {
  static World world;
  return world;
}

std::span<const FaultKind* const> fake_kinds() {
  return kKinds;
}

}  // namespace squall::lease_protocol
