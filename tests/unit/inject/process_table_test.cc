#include "inject/process_table.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>

namespace squall::inject {
namespace {

TEST(ProcessTable, ANumberGivenToAnotherProcessIsNotTheSameProcess) {
  const base::ProcessIdentity self = base::identify_process(::getpid()).value();
  base::ProcessIdentity former = self;
  ++former.start_time;

  ASSERT_TRUE(open_if_there(self).value().has_value());
  EXPECT_FALSE(open_if_there(former).value().has_value());
  EXPECT_NE(look_at_state(self).value(), 'X');
  EXPECT_EQ(look_at_state(former).value(), 'X');

  RecalledProcesses recalled;
  recalled.add(former);
  recalled.add(self);
  std::vector<base::PidFd> opened;
  ASSERT_TRUE(recalled.open_into(opened).ok());
  ASSERT_EQ(opened.size(), 1u);
  EXPECT_EQ(opened.front().identity(), self);
}

TEST(ProcessTable, SeesItself) {
  const auto table = read_process_table();
  ASSERT_TRUE(table.ok());
  EXPECT_TRUE(std::any_of(table->begin(), table->end(), [](const ProcessEntry& entry) {
    return entry.identity.pid == ::getpid();
  }));
}

}  // namespace
}  // namespace squall::inject
