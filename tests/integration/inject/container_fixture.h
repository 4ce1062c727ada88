#pragma once
// Services whose members are containers of a Podman of the test's own.

#include "base/text.h"
#include "integration/inject/fixture.h"
#include "support/podman.h"

namespace squall::inject {

using test::Podman;

// One Podman for all tests of a suite; each test removes its containers.
class ContainerTest : public InjectTest {
 protected:
  static void SetUpTestSuite() {
    if (::geteuid() != 0 || !Podman::missing().empty()) return;
    suite_folder_ = base::make_temporary_directory("squall-podman").value();
    podman_ = std::make_unique<Podman>(suite_folder_);
    ASSERT_TRUE(podman_->start_service().ok());
  }
  static void TearDownTestSuite() {
    podman_.reset();
    std::error_code ignored;
    if (!suite_folder_.empty()) std::filesystem::remove_all(suite_folder_, ignored);
  }

  void SetUp() override {
    InjectTest::SetUp();
    if (IsSkipped()) return;
    if (!Podman::missing().empty()) GTEST_SKIP() << "no podman here: " << Podman::missing();
  }
  void TearDown() override {
    if (podman_) podman_->podman_says({"rm", "-af", "-t", "0"}, false);
    InjectTest::TearDown();
  }

  model::Service& add_boxes(int members = 1) {
    model::Service service;
    service.name = "boxes";
    service.container.label = "app=boxes";
    service.expected_members = members;
    map_.services.push_back(service);
    return map_.services.back();
  }
  static Json chosen(Json more = Json::object()) {
    Json parameters = {{"service", "boxes"}, {"count", 1}, {"random", true}};
    parameters.update(more);
    return parameters;
  }

  static inline std::string suite_folder_;
  static inline std::unique_ptr<Podman> podman_;
};

}  // namespace squall::inject
