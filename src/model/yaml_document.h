#pragma once
// A YAML file as a tree that knows where everything stands. The only place that touches yaml-cpp:
// its exceptions become diagnostics here. The tree keeps scalars as written, so that what `no`,
// `010` or `1:30` mean is decided by whoever knows the wanted type (file_reader.h).

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "model/diagnostic.h"

namespace squall::model {

// Files of the user above these limits are refused. Callers that read from disk pass kFileSizeLimit
// to base::read_file, so that a huge file is never read.
inline constexpr std::size_t kFileSizeLimit = 1u << 20;
inline constexpr int kYamlDepthLimit = 64;
inline constexpr std::size_t kYamlNodeLimit = 100'000;  // after expansion of aliases
inline constexpr std::size_t kYamlKeysLimit = 1000;     // in one map
inline constexpr std::size_t kYamlLineLimit = 10'000;   // bytes

struct YamlNode;
using YamlNodePtr = std::shared_ptr<const YamlNode>;  // never null inside a tree

// Immutable once parsed. Aliases share the node that they name.
struct YamlNode {
  enum class Kind { kNull, kScalar, kSequence, kMap };
  struct Entry {
    std::string key;
    int line = 0;  // of the key
    int column = 0;
    YamlNodePtr value;
  };

  Kind kind = Kind::kNull;
  std::string text;                // of a scalar, quotes and folding resolved
  bool quoted = false;             // a scalar in quotes or a block (`|`, `>`): always a text
  bool flow = false;               // written with [ ] or { }
  int line = 0;                    // counted from 1; of an empty value: where its key stands
  int column = 0;                  // counted from 1, in characters
  std::vector<YamlNodePtr> items;  // of a sequence
  std::vector<Entry> entries;      // of a map, in file order, keys distinct

  bool is_null() const { return kind == Kind::kNull; }
  bool is_scalar() const { return kind == Kind::kScalar; }
  bool is_sequence() const { return kind == Kind::kSequence; }
  bool is_map() const { return kind == Kind::kMap; }
  const Entry* find(std::string_view key) const;
};

class YamlDocument {
 public:
  // Reports to `diagnostics` and returns a null tree when the text is too large, not UTF-8, not
  // YAML, holds several documents, tags, cyclic or exploding aliases, or a key twice in one map.
  static YamlDocument parse(std::string_view text, const std::string& file,
                            Diagnostics& diagnostics);

  const YamlNodePtr& root() const { return root_; }  // null after a mistake
  Location location(const YamlNode& node) const { return {file_, node.line, node.column}; }
  Location location(const YamlNode::Entry& entry) const {
    return {file_, entry.line, entry.column};
  }
  // Where byte `offset` of the text of scalar `node` stands in the file.
  Location location_in(const YamlNode& node, std::size_t offset) const;

 private:
  std::string file_;
  std::vector<std::string> lines_;
  YamlNodePtr root_;
};

// `base` with the changes of `override`: maps merge key by key, null removes a key, anything else
// replaces. Nodes keep their places in the file.
YamlNodePtr merged(const YamlNodePtr& base, const YamlNodePtr& override);

// By the YAML 1.2 core rules, as editors see the file: only true and false are truth values, a
// plain number is a number, everything else is a text.
base::Json to_json(const YamlNode& node);

}  // namespace squall::model
