#pragma once
// Compares text with a file under tests/data/golden. SQUALL_UPDATE_GOLDEN=1 writes the files anew;
// look at the difference before committing it.

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "base/files.h"

namespace squall::test {

inline void expect_golden(const std::string& actual, const std::string& name) {
  const std::string path = std::string(SQUALL_SOURCE_DIR) + "/tests/data/golden/" + name;
  if (std::getenv("SQUALL_UPDATE_GOLDEN") != nullptr) {
    ASSERT_TRUE(base::write_file_atomically(path, actual).ok());
    return;
  }
  const auto expected = base::read_file(path, 16u << 20);
  ASSERT_TRUE(expected.ok()) << expected.error().to_string();
  EXPECT_EQ(actual, *expected) << "if this is meant, run with SQUALL_UPDATE_GOLDEN=1";
}

}  // namespace squall::test
