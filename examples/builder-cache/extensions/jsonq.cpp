#include <iostream>
#include <nlohmann/json.hpp>

// Prints what a JSON pointer names: jsonq /a/0 < document
int main(int count, char **arguments) {
    if (count != 2) {
        std::cerr << "usage: jsonq POINTER\n";
        return 2;
    }
    try {
        const auto document = nlohmann::json::parse(std::cin);
        std::cout << document.at(nlohmann::json::json_pointer(arguments[1])).dump(2) << '\n';
    } catch (const nlohmann::json::exception &error) {
        std::cerr << "jsonq: " << error.what() << '\n';
        return 1;
    }
}
