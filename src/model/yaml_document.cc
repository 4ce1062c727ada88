#include "model/yaml_document.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "base/text.h"
#include "model/yaml_scalar.h"

namespace squall::model {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines;
  std::size_t begin = 0;
  while (begin <= text.size()) {
    std::size_t end = text.find('\n', begin);
    if (end == std::string_view::npos) end = text.size();
    std::string_view line = text.substr(begin, end - begin);
    if (line.ends_with('\r')) line.remove_suffix(1);
    lines.emplace_back(line);
    begin = end + 1;
  }
  return lines;
}

bool continues_character(char byte) {
  return (static_cast<unsigned char>(byte) & 0xC0) == 0x80;
}

// yaml-cpp counts bytes; people count characters. Both from 0 here.
int characters_before(std::string_view line, std::size_t byte) {
  byte = std::min(byte, line.size());
  return static_cast<int>(std::count_if(line.begin(), line.begin() + static_cast<long>(byte),
                                        [](char c) { return !continues_character(c); }));
}

// A mistake found while the events of yaml-cpp come in; thrown to leave its parser, caught in
// YamlDocument::parse and nowhere else.
struct Refusal {
  int line = 0;
  int column = 0;
  std::string message;
  std::string hint;
};

// Builds our tree from the events of yaml-cpp, within the limits of the header.
class TreeBuilder final : public YAML::EventHandler {
 public:
  TreeBuilder(const std::vector<std::string>& lines, const std::string& file,
              Diagnostics& diagnostics)
      : lines_(lines), file_(file), diagnostics_(diagnostics) {}

  YamlNodePtr take_root() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) {
      refuse(mark, "the file holds more than one YAML document",
             "keep one document a file: remove the `---` and what follows it, or move it to a file "
             "of its own");
    }
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    YamlNode node;
    place(node, mark);
    // An empty value is reported by yaml-cpp at the next token, which may be lines away.
    bool written = has_null_word(mark);
    if (!written && !open_.empty() && open_.back().key) {
      node.line = open_.back().key->line;
      node.column = open_.back().key->column;
    }
    if (open_expects_key()) refuse(mark, "a key is missing before `:`", "write a key, or quote it");
    add(std::move(node), anchor, 1, 0, mark);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    auto found = anchors_.find(anchor);
    if (found == anchors_.end()) {
      refuse(mark, "this alias stands inside the value that it names",
             "write the value out in full");
    }
    if (open_expects_key()) refuse(mark, "a key cannot be an alias", "write the key out");
    if (open_.size() + static_cast<std::size_t>(found->second.height) > kYamlDepthLimit) {
      refuse_depth(mark);
    }
    attach(found->second.node, found->second.expanded, found->second.height, mark);
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    YamlNode node;
    node.kind = YamlNode::Kind::kScalar;
    node.text = value;
    node.quoted = tag == "!" || tag == "tag:yaml.org,2002:str";
    place(node, mark);
    if (tag != "?" && !node.quoted) refuse_tag(mark);
    if (node.quoted && is_unclosed(mark)) {
      refuse(mark, "the quote that opens here is never closed",
             "close it; inside single quotes a single quote is written twice");
    }
    if (open_expects_key()) {
      begin_entry(std::move(node), mark);
      return;
    }
    add(std::move(node), anchor, 1, 0, mark);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value style) override {
    open(YamlNode::Kind::kSequence, mark, tag, anchor, style);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value style) override {
    open(YamlNode::Kind::kMap, mark, tag, anchor, style);
  }
  void OnMapEnd() override { close(); }

 private:
  struct Open {
    YamlNode node;
    YAML::anchor_t anchor = 0;
    std::size_t expanded = 1;
    int height = 1;                                // levels of lists and maps, this one included
    std::optional<YamlNode::Entry> key;            // read, its value is to come
    bool repeated = false;                         // that key stood in the map before
    std::map<std::string, int, std::less<>> seen;  // key to line
  };
  struct Anchored {
    YamlNodePtr node;
    std::size_t expanded = 1;
    int height = 0;
  };

  [[noreturn]] void refuse(const YAML::Mark& mark, std::string message, std::string hint) {
    YamlNode at;
    place(at, mark);
    throw Refusal{at.line, at.column, std::move(message), std::move(hint)};
  }
  [[noreturn]] void refuse_tag(const YAML::Mark& mark) {
    refuse(mark, "YAML tags (`!name`) are not used here", "remove the tag");
  }

  [[noreturn]] void refuse_depth(const YAML::Mark& mark) {
    refuse(mark, fmt::format("nested deeper than {} levels", kYamlDepthLimit),
           "no file of Squall needs that: remove levels");
  }

  void place(YamlNode& node, const YAML::Mark& mark) {
    node.line = mark.line + 1;
    node.column = mark.column + 1;
    if (mark.line < 0 || static_cast<std::size_t>(mark.line) >= lines_.size()) return;
    std::string_view line = lines_[static_cast<std::size_t>(mark.line)];
    auto byte = std::min(static_cast<std::size_t>(std::max(mark.column, 0)), line.size());
    // Marks come from left to right, so that a line is counted once and not once a value.
    if (counted_.line != mark.line || counted_.byte > byte) counted_ = {mark.line, 0, 0};
    counted_.characters += characters_before(line.substr(counted_.byte), byte - counted_.byte);
    counted_.byte = byte;
    node.column = counted_.characters + 1;
  }

  // yaml-cpp takes an open quote for closed at the end of the file, and with it all that follows.
  bool is_unclosed(const YAML::Mark& mark) const {
    if (mark.line < 0 || static_cast<std::size_t>(mark.line) >= lines_.size()) return false;
    auto line = static_cast<std::size_t>(mark.line);
    auto at = static_cast<std::size_t>(std::max(mark.column, 0));
    // An anchor or a tag may stand before the quote.
    while (at < lines_[line].size() && (lines_[line][at] == '&' || lines_[line][at] == '!')) {
      at = std::min(lines_[line].find(' ', at), lines_[line].size());
      at = std::min(lines_[line].find_first_not_of(' ', at), lines_[line].size());
    }
    if (at >= lines_[line].size()) return false;
    const char quote = lines_[line][at];
    if (quote != '\'' && quote != '"') return false;
    for (++at; line < lines_.size(); ++line, at = 0) {
      std::string_view text = lines_[line];
      for (; at < text.size(); ++at) {
        if (quote == '"' && text[at] == '\\') {
          ++at;
        } else if (text[at] == quote) {
          if (quote == '"' || at + 1 >= text.size() || text[at + 1] != quote) return false;
          ++at;
        }
      }
    }
    return true;
  }

  bool has_null_word(const YAML::Mark& mark) const {
    if (mark.line < 0 || static_cast<std::size_t>(mark.line) >= lines_.size()) return false;
    std::string_view line = lines_[static_cast<std::size_t>(mark.line)];
    if (mark.column < 0 || static_cast<std::size_t>(mark.column) >= line.size()) return false;
    line.remove_prefix(static_cast<std::size_t>(mark.column));
    return line.starts_with('~') || line.starts_with("null") || line.starts_with("Null") ||
           line.starts_with("NULL");
  }

  bool open_expects_key() const {
    return !open_.empty() && open_.back().node.is_map() && !open_.back().key;
  }

  void begin_entry(YamlNode key, const YAML::Mark& mark) {
    if (key.text == "<<" && !key.quoted) {
      refuse(mark, "merge keys (`<<`) are not supported", "write the keys out where they are used");
    }
    Open& map = open_.back();
    if (map.seen.size() >= kYamlKeysLimit) {
      refuse(mark, fmt::format("more than {} keys in one map", kYamlKeysLimit),
             "no file of Squall needs that: split it");
    }
    auto [seen, is_new] = map.seen.emplace(key.text, key.line);
    map.repeated = !is_new;
    if (!is_new) {
      diagnostics_.error(
          {file_, key.line, key.column},
          fmt::format("`{}` is here twice; it first stands in line {}", key.text, seen->second),
          "keep one of the two", static_cast<int>(key.text.size()));
    }
    map.key = YamlNode::Entry{std::move(key.text), key.line, key.column, nullptr};
  }

  void open(YamlNode::Kind kind, const YAML::Mark& mark, const std::string& tag,
            YAML::anchor_t anchor, YAML::EmitterStyle::value style) {
    if (tag != "?" && !tag.empty()) refuse_tag(mark);
    if (open_expects_key()) {
      refuse(mark, "a list or a map cannot be a key",
             "keys are plain words; a text that starts with [ or { is quoted");
    }
    if (open_.size() >= kYamlDepthLimit) refuse_depth(mark);
    Open opened;
    opened.node.kind = kind;
    opened.node.flow = style == YAML::EmitterStyle::Flow;
    opened.anchor = anchor;
    place(opened.node, mark);
    open_.push_back(std::move(opened));
  }

  void close() {
    Open closed = std::move(open_.back());
    open_.pop_back();
    YAML::Mark mark;
    mark.line = closed.node.line - 1;
    add(std::move(closed.node), closed.anchor, closed.expanded, closed.height, mark);
  }

  void add(YamlNode node, YAML::anchor_t anchor, std::size_t expanded, int height,
           const YAML::Mark& mark) {
    auto shared = std::make_shared<const YamlNode>(std::move(node));
    if (anchor != 0) anchors_[anchor] = {shared, expanded, height};
    attach(std::move(shared), expanded, height, mark);
  }

  void attach(YamlNodePtr node, std::size_t expanded, int height, const YAML::Mark& mark) {
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    Open& parent = open_.back();
    parent.expanded += expanded;
    parent.height = std::max(parent.height, height + 1);
    if (parent.expanded > kYamlNodeLimit) {
      refuse(mark, fmt::format("the file grows to more than {} values", kYamlNodeLimit),
             "aliases (`*name`) that name values with aliases multiply: write the values out");
    }
    if (parent.node.is_sequence()) {
      parent.node.items.push_back(std::move(node));
      return;
    }
    parent.key->value = std::move(node);
    if (!parent.repeated) parent.node.entries.push_back(std::move(*parent.key));
    parent.key.reset();
  }

  // How many characters of a line stand before a byte of it.
  struct Counted {
    int line = -1;
    std::size_t byte = 0;
    int characters = 0;
  };

  const std::vector<std::string>& lines_;
  const std::string& file_;
  Diagnostics& diagnostics_;
  Counted counted_;
  std::vector<Open> open_;
  std::map<YAML::anchor_t, Anchored> anchors_;
  YamlNodePtr root_;
  int documents_ = 0;
};

struct Translation {
  std::string_view original;  // how yaml-cpp's message starts
  std::string_view message;
  std::string_view hint;
};
constexpr std::array<Translation, 12> kTranslations = {{
    {"illegal map value", "a colon cannot stand here",
     "put a text that contains `: ` in quotes; or check the indentation"},
    {"end of map not found", "this is neither a new key nor part of the value before it",
     "check the indentation; a text with a quote inside is quoted whole"},
    {"end of map flow not found", "the `}` of this map is missing",
     "close the map; inside { } a text with any of [ ] { } , is quoted"},
    {"end of sequence not found", "a list entry was expected here",
     "check the indentation; every entry starts with `- `"},
    {"end of sequence flow not found", "the `]` of this list is missing",
     "close the list; inside [ ] a text with any of [ ] { } , is quoted"},
    {"illegal block entry", "a list entry cannot start here",
     "put the list on lines of its own, each entry indented and starting with `- `"},
    {"unknown token", "a text cannot start with this character", "put the text in quotes"},
    {"illegal EOF in scalar", "the closing quote is missing",
     "close the quote that was opened on this line or above"},
    {"illegal tab when looking for indentation", "a tab indents this line",
     "YAML wants spaces: replace the tab"},
    {"the referenced anchor is not defined", "this alias names no anchor of the file",
     "write the value out; a text that starts with * is quoted"},
    {"alias not found after *", "an alias needs a name", "a text that starts with * is quoted"},
    {"anchor not found after &", "an anchor needs a name", "a text that starts with & is quoted"},
}};

bool indented_by_tab(std::string_view line) {
  std::size_t first = line.find_first_not_of(" \t");
  return line.substr(0, first == std::string_view::npos ? line.size() : first).find('\t') !=
         std::string_view::npos;
}

// Whether the line looks like a prediction whose quotes or brackets YAML has taken for its own.
bool looks_like_trapped_prediction(std::string_view line) {
  bool has_trap = line.find_first_of("\"[{") != std::string_view::npos;
  bool has_comparator = line.find_first_of("<>") != std::string_view::npos ||
                        line.find("==") != std::string_view::npos ||
                        line.find("!=") != std::string_view::npos ||
                        line.find(" exists") != std::string_view::npos;
  return has_trap && has_comparator;
}

void report_syntax(const YAML::Exception& exception, const std::vector<std::string>& lines,
                   const std::string& file, Diagnostics& diagnostics) {
  Location location{file, 0, 0};
  std::string_view line;
  std::string_view line_before;
  if (!exception.mark.is_null() && exception.mark.line >= 0) {
    auto number = static_cast<std::size_t>(exception.mark.line);
    if (number < lines.size()) line = lines[number];
    if (number > 0 && number <= lines.size()) line_before = lines[number - 1];
    location.line = exception.mark.line + 1;
    location.column =
        characters_before(line, static_cast<std::size_t>(std::max(exception.mark.column, 0))) + 1;
  }
  // A mistake that shows at the end of the file is shown at the end of the last line with text.
  while (line.empty() && location.line > 1) {
    --location.line;
    line = lines[static_cast<std::size_t>(
                     std::min<int>(location.line, static_cast<int>(lines.size()))) -
                 1];
    location.column = characters_before(line, line.size()) + 1;
  }
  std::string message = fmt::format("not valid YAML: {}", exception.msg);
  std::string hint;
  auto known = std::find_if(kTranslations.begin(), kTranslations.end(),
                            [&](const Translation& t) { return exception.msg == t.original; });
  if (known != kTranslations.end()) {
    message = known->message;
    hint = known->hint;
  }
  if (indented_by_tab(line) || indented_by_tab(line_before)) {
    message = "a tab indents this line or the one before";
    hint = "YAML wants spaces: replace the tab";
  } else if (looks_like_trapped_prediction(line)) {
    hint =
        "a prediction that contains a double quote, a bracket or a brace is quoted whole, with "
        "single quotes outside: '...'";
  }
  diagnostics.error(std::move(location), std::move(message), std::move(hint));
}

// Size, encoding and length of lines, which need no parser. False when the text cannot be read on.
bool check_bytes(std::string_view text, const std::string& file, Diagnostics& diagnostics) {
  if (text.size() > kFileSizeLimit) {
    diagnostics.error(
        {file, 0, 0},
        fmt::format("the file has {} bytes; at most {} are read", text.size(), kFileSizeLimit),
        "is this the right file? Experiments and system maps are a few kilobytes");
    return false;
  }
  int line = 1;
  std::size_t begin = 0;
  while (begin <= text.size()) {
    std::size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view part = text.substr(begin, end - begin);
    if (!base::is_valid_utf8(part) || part.find('\0') != std::string_view::npos) {
      diagnostics.error({file, line, 1}, "this line is not UTF-8 text", "save the file as UTF-8");
      return false;
    }
    if (part.size() > kYamlLineLimit) {
      diagnostics.error({file, line, 1},
                        fmt::format("this line is longer than {} bytes", kYamlLineLimit),
                        "break it into several lines");
      return false;
    }
    begin = end + 1;
    ++line;
  }
  return true;
}

}  // namespace

const YamlNode::Entry* YamlNode::find(std::string_view key) const {
  auto found = std::find_if(entries.begin(), entries.end(),
                            [key](const Entry& entry) { return entry.key == key; });
  return found == entries.end() ? nullptr : &*found;
}

YamlDocument YamlDocument::parse(std::string_view text, const std::string& file,
                                 Diagnostics& diagnostics) {
  YamlDocument document;
  document.file_ = file;
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  if (!check_bytes(text, file, diagnostics)) return document;
  diagnostics.set_source(file, text);
  document.lines_ = lines_of(text);
  TreeBuilder builder(document.lines_, file, diagnostics);
  std::istringstream stream{std::string(text)};
  try {
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
    document.root_ = builder.take_root();
    if (!document.root_) {
      diagnostics.error({file, 1, 1}, "the file is empty",
                        "`squall init` writes a system map to start from");
    }
  } catch (const Refusal& refusal) {
    diagnostics.error({file, refusal.line, refusal.column}, refusal.message, refusal.hint);
  } catch (const YAML::Exception& exception) {
    report_syntax(exception, document.lines_, file, diagnostics);
  } catch (const std::exception& exception) {
    diagnostics.error({file, 0, 0}, fmt::format("not valid YAML: {}", exception.what()));
  }
  return document;
}

Location YamlDocument::location_in(const YamlNode& node, std::size_t offset) const {
  Location start = location(node);
  if (node.line < 1 || static_cast<std::size_t>(node.line) > lines_.size()) return start;
  auto line = static_cast<std::size_t>(node.line) - 1;
  // The byte at which the node starts, found by walking its characters.
  std::size_t byte = 0;
  for (int column = 1; column < node.column && byte < lines_[line].size(); ++byte) {
    if (byte + 1 >= lines_[line].size() || !continues_character(lines_[line][byte + 1])) ++column;
  }
  char quote = 0;
  if (byte < lines_[line].size() && (lines_[line][byte] == '\'' || lines_[line][byte] == '"')) {
    quote = lines_[line][byte++];
  }
  for (std::size_t position = 0; position < std::min(offset, node.text.size()); ++position) {
    std::string_view source = lines_[line];
    bool folded = node.text[position] == ' ' &&
                  source.find_first_not_of(" \t", byte) == std::string_view::npos;
    if (folded) {
      if (++line >= lines_.size()) return start;
      byte = std::min(lines_[line].find_first_not_of(" \t"), lines_[line].size());
      continue;
    }
    if (byte >= source.size()) return start;
    if (quote == '"' && source[byte] == '\\') ++byte;
    if (byte >= source.size() || source[byte] != node.text[position]) return start;
    if (quote == '\'' && source[byte] == '\'') ++byte;
    ++byte;
  }
  return {file_, static_cast<int>(line) + 1, characters_before(lines_[line], byte) + 1};
}

YamlNodePtr merged(const YamlNodePtr& base, const YamlNodePtr& override) {
  if (!base || !base->is_map() || !override->is_map()) return override;
  auto result = std::make_shared<YamlNode>(*base);
  for (const YamlNode::Entry& change : override->entries) {
    auto existing =
        std::find_if(result->entries.begin(), result->entries.end(),
                     [&](const YamlNode::Entry& entry) { return entry.key == change.key; });
    bool present = existing != result->entries.end();
    if (change.value->is_null()) {
      if (present) result->entries.erase(existing);
    } else if (present) {
      existing->value = merged(existing->value, change.value);
    } else {
      // An added map may itself hold nulls: they remove nothing and are dropped.
      YamlNode::Entry added = change;
      auto empty = std::make_shared<YamlNode>(*change.value);
      if (empty->is_map()) {
        empty->entries.clear();
        added.value = merged(empty, change.value);
      }
      result->entries.push_back(std::move(added));
    }
  }
  return result;
}

base::Json to_json(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::kNull:
      return nullptr;
    case YamlNode::Kind::kSequence: {
      base::Json list = base::Json::array();
      for (const YamlNodePtr& item : node.items) list.push_back(to_json(*item));
      return list;
    }
    case YamlNode::Kind::kMap: {
      base::Json map = base::Json::object();
      for (const YamlNode::Entry& entry : node.entries) map[entry.key] = to_json(*entry.value);
      return map;
    }
    case YamlNode::Kind::kScalar:
      break;
  }
  if (node.quoted) return node.text;
  if (auto truth = core_boolean(node.text)) return *truth;
  if (auto integer = core_integer(node.text)) return *integer;
  if (auto number = core_number(node.text)) return *number;
  return node.text;
}

}  // namespace squall::model
